/*
 * Lines appended to a file, by a thread of their own: a full, slow or hanging
 * disk loses lines, which are counted, and never holds the caller up.  What the
 * lines say is trace.c's.
 *
 * All calls are one thread's, the loop's.
 */
#ifndef COORDINATOR_RECORD_H
#define COORDINATOR_RECORD_H

#include <stddef.h>
#include <stdint.h>

struct record;

/* Without a file yet.  -ENOMEM, or -errno of the thread. */
int record_create(struct record **ret_record);

/*
 * From now on lines go to this file, which is made where needed, for its owner
 * alone; its first line is `first`.  The one before is closed once what was
 * written so far is in it; the same again opens the file anew.  NULL: none.
 * -ENOMEM: nothing changed.
 */
int record_open(struct record *record, const char *file, const char *first);

/* One line, without its end.  Lost where there is no room for it. */
void record_line(struct record *record, const char *line, size_t bytes);

/* Lines lost so far; *ret_error: why the last ones were (an errno, ENOBUFS:
 * the disk is too slow), 0: all is well since. */
uint64_t record_lost(const struct record *record, int *ret_error);

/* Writes what is there, for a second at most. */
void record_free(struct record *record);

#endif
