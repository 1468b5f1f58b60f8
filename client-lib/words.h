/* Words for people: what the last failed call of this thread has to say. */
#ifndef CLIENT_WORDS_H
#define CLIENT_WORDS_H

/* Remembers the words for rgov_why() and returns `error`. */
int fail(int error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
