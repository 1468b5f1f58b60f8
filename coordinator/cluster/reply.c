/* hiredis' reader with its constructors wrapped by our bounds. */
#include "coordinator/cluster/reply.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	REPLY_BYTES = 256 * 1024, /* of one reply, and what came after it */
};

/* hiredis' own, from its own table: it has no name to call it by. */
static void *(*hiredis_array)(const redisReadTask *task, int elements);

/* hiredis allocates a list before its elements have come.  NULL: it gives up
 * the whole reply. */
static void *create_bounded_array(const redisReadTask *task, int elements)
{
	if (elements > REDIS_NUMBERS || task->parent != NULL)
		return NULL;
	return hiredis_array(task, elements);
}

int reply_reader_init(struct reply_reader *reader)
{
	*reader = (struct reply_reader){.reader = redisReaderCreate()};
	if (reader->reader == NULL)
		return -ENOMEM;
	reader->functions = *reader->reader->fn;
	hiredis_array = reader->functions.createArray;
	reader->functions.createArray = create_bounded_array;
	reader->reader->fn = &reader->functions;
	return 0;
}

void reply_reader_fini(struct reply_reader *reader)
{
	if (reader->reader != NULL)
		redisReaderFree(reader->reader);
	*reader = (struct reply_reader){0};
}

int reply_feed(struct reply_reader *reader, const char *bytes, size_t n)
{
	reader->unanswered += n;
	return reader->unanswered > REPLY_BYTES ||
			       redisReaderFeed(reader->reader, bytes, n) !=
				       REDIS_OK
		       ? -EPROTO
		       : 0;
}

int reply_next(struct reply_reader *reader, redisReply **ret_reply)
{
	void *reply = NULL;

	if (redisReaderGetReply(reader->reader, &reply) != REDIS_OK)
		return -EPROTO;
	if (reply != NULL)
		reader->unanswered = 0;
	*ret_reply = reply;
	return 0;
}

ssize_t reply_numbers(const redisReply *reply, long long numbers[REDIS_NUMBERS])
{
	if (reply->type != REDIS_REPLY_ARRAY)
		return -EPROTO;
	for (size_t i = 0; i < reply->elements; i++) {
		if (reply->element[i]->type != REDIS_REPLY_INTEGER)
			return -EPROTO;
		numbers[i] = reply->element[i]->integer;
	}
	return (ssize_t)reply->elements;
}

enum redis_trouble reply_trouble(const redisReply *reply)
{
	static const struct {
		const char *code;
		enum redis_trouble trouble;
	} codes[] = {
		{"NOAUTH", REDIS_PASSWORD},
		{"WRONGPASS", REDIS_PASSWORD},
		{"NOPERM", REDIS_PASSWORD},
		{"LOADING", REDIS_LOADING},
		{"READONLY", REDIS_READONLY},
		{"MASTERDOWN", REDIS_READONLY},
		{"MOVED", REDIS_MOVED},
		{"ASK", REDIS_MOVED},
		{"TRYAGAIN", REDIS_MOVED},
		{"CROSSSLOT", REDIS_MOVED},
		{"CLUSTERDOWN", REDIS_MOVED},
		{"WRONGTYPE", REDIS_WRONGTYPE},
		{"RGOV", REDIS_WRONGTYPE}, /* lease.lua's own */
		{"OOM", REDIS_FULL},
		{"MISCONF", REDIS_FULL},
		{"NOREPLICAS", REDIS_FULL},
	};
	size_t n = strcspn(reply->str, " ");

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strlen(codes[i].code) == n &&
			strncmp(codes[i].code, reply->str, n) == 0)
			return codes[i].trouble;
	return REDIS_ERROR;
}

void reply_clean(const char *text, char *ret_text, size_t bytes)
{
	size_t used = 0;

	for (; *text != '\0' && used + 1 < bytes; text++)
		ret_text[used++] = *text >= 0x20 && *text < 0x7f ? *text : '?';
	ret_text[used] = '\0';
}
