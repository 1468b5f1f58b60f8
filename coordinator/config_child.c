/*
 * Reads the file in a child process.  libConfuse does not survive a lack of
 * memory: its scanner calls exit(), its tables are followed where they could
 * not be made.  In rgovd that would be the end of every request that waits; in
 * a child it is a file that cannot be read now.
 *
 * What the child found (complaints, blocks, entries) comes back through a pipe,
 * in its order: numbers of 8 bytes, and texts as a number and their bytes.
 * Whatever is missing or does not fit means that the child had no memory.
 *
 * The caller waits for the child, which closes what it was born with: not for
 * one that holds descriptors which hang (door_may_fork()).
 */
#include "coordinator/config_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_BLOCK UINT64_MAX

/* ------------------------------------------------------------ the child */

static void put(FILE *out, uint64_t number)
{
	(void)fwrite(&number, sizeof(number), 1, out);
}

static void put_text(FILE *out, const char *text)
{
	put(out, strlen(text));
	(void)fwrite(text, strlen(text), 1, out);
}

static void put_complaints(FILE *out, const struct config_error *error)
{
	put(out, error->n);
	for (size_t i = 0; i < error->n && i < CONFIG_ERRORS; i++)
		put_text(out, error->text[i]);
}

static void put_blocks(FILE *out, const struct config_block *first)
{
	uint64_t n = 0;

	for (const struct config_block *at = first; at != NULL; at = at->next)
		n++;
	put(out, n);
	for (const struct config_block *at = first; at != NULL; at = at->next) {
		put(out, (uint64_t)at->scope);
		put_text(out, at->title);
		put_text(out, at->origin);
	}
}

static uint64_t number_of(
	const struct config_block *block, const struct config_block *first)
{
	uint64_t n = 0;

	if (block == NULL)
		return NO_BLOCK;
	for (; first != block; first = first->next)
		n++;
	return n;
}

static void put_entries(FILE *out, const struct config_draft *draft)
{
	uint64_t n = 0;

	for (const struct config_entry *at = draft->entries; at; at = at->next)
		n++;
	put(out, n);
	for (const struct config_entry *at = draft->entries; at;
		at = at->next) {
		put(out, (uint64_t)(at->key - config_keys));
		put(out, number_of(at->block, draft->config->own->blocks));
		put(out, at->n);
		put_text(out, at->text);
		put_text(out, at->origin);
	}
}

/* Without the descriptors of rgovd: its locks and sockets must not live on in a
 * child that outlives it. */
static void part_from_parent(int keep)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (keep > STDERR_FILENO + 1)
		(void)close_range(STDERR_FILENO + 1, (unsigned int)keep - 1, 0);
	(void)close_range((unsigned int)keep + 1, ~0U, 0);
}

_Noreturn static void work(
	struct config_draft *draft, const char *file, int pipe_fd)
{
	int rc;
	FILE *out;

	part_from_parent(pipe_fd);
	rc = config_file_read(draft, file);
	out = fdopen(pipe_fd, "w");
	if (out == NULL || draft->no_memory || rc == -ENOMEM)
		_exit(1);
	put(out, (uint64_t)-rc);
	put_complaints(out, draft->error);
	put_blocks(out, draft->config->own->blocks);
	put_entries(out, draft);
	_exit(fclose(out) == 0 ? 0 : 1);
}

/* ------------------------------------------------------------ the parent */

/* What has come and was not taken yet. */
struct parcel {
	const char *at;
	size_t left;
};

static bool take(struct parcel *parcel, uint64_t *ret_number)
{
	if (parcel->left < sizeof(*ret_number))
		return false;
	memcpy(ret_number, parcel->at, sizeof(*ret_number));
	parcel->at += sizeof(*ret_number);
	parcel->left -= sizeof(*ret_number);
	return true;
}

static const char *take_text(struct config_draft *draft, struct parcel *parcel)
{
	const char *text;
	uint64_t bytes;

	if (!take(parcel, &bytes) || bytes > parcel->left)
		return NULL;
	text = config_printf(draft, "%.*s", (int)bytes, parcel->at);
	parcel->at += bytes;
	parcel->left -= bytes;
	return text;
}

static bool take_complaints(struct config_draft *draft, struct parcel *parcel)
{
	struct config_error *error = draft->error;
	uint64_t n;

	if (!take(parcel, &n))
		return false;
	for (size_t i = 0; i < n && i < CONFIG_ERRORS; i++) {
		const char *text = take_text(draft, parcel);

		if (text == NULL)
			return false;
		(void)snprintf(error->text[i], CONFIG_ERROR_BYTES, "%s", text);
	}
	error->n = n;
	return true;
}

static bool take_block(struct config_draft *draft, struct parcel *parcel)
{
	struct config_block *block = config_alloc(draft, sizeof(*block));
	uint64_t scope;

	if (block == NULL || !take(parcel, &scope))
		return false;
	block->scope = (enum config_scope)scope;
	block->title = take_text(draft, parcel);
	block->origin = take_text(draft, parcel);
	if (draft->last_block == NULL)
		draft->config->own->blocks = block;
	else
		draft->last_block->next = block;
	draft->last_block = block;
	return block->title != NULL && block->origin != NULL;
}

static bool take_entry(struct config_draft *draft, struct parcel *parcel)
{
	struct config_entry *entry = config_alloc(draft, sizeof(*entry));
	struct config_block *block = draft->config->own->blocks;
	uint64_t key, number, n;

	if (entry == NULL || !take(parcel, &key) || key >= CONFIG_KEYS ||
		!take(parcel, &number) || !take(parcel, &n))
		return false;
	for (uint64_t i = 0; number != NO_BLOCK && block && i < number; i++)
		block = block->next;
	entry->key = &config_keys[key];
	entry->block = number == NO_BLOCK ? NULL : block;
	entry->n = n;
	entry->text = take_text(draft, parcel);
	entry->origin = take_text(draft, parcel);
	if (draft->entries == NULL)
		draft->entries = entry;
	else
		draft->last_entry->next = entry;
	draft->last_entry = entry;
	return entry->text != NULL && entry->origin != NULL;
}

static bool take_all(struct config_draft *draft, struct parcel *parcel,
	bool (*take_one)(struct config_draft *draft, struct parcel *parcel))
{
	uint64_t n;

	if (!take(parcel, &n))
		return false;
	while (n-- > 0)
		if (!take_one(draft, parcel))
			return false;
	return true;
}

static int unpack(struct config_draft *draft, struct parcel parcel)
{
	uint64_t error;

	if (take(&parcel, &error) && take_complaints(draft, &parcel) &&
		take_all(draft, &parcel, take_block) &&
		take_all(draft, &parcel, take_entry) && parcel.left == 0)
		return -(int)error;
	draft->no_memory = true;
	return -ENOMEM;
}

/* Until the child has closed its end.  -errno. */
static int receive(int fd, char **ret_bytes, size_t *ret_n)
{
	size_t used = 0, size = 0;
	char *bytes = NULL;
	ssize_t got = 1;

	while (got != 0) {
		if (used == size) {
			char *more = realloc(bytes, size * 2 + 16384);

			if (more == NULL)
				break;
			bytes = more;
			size = size * 2 + 16384;
		}
		got = read(fd, bytes + used, size - used);
		if (got > 0)
			used += (size_t)got;
		else if (got < 0 && errno != EINTR)
			break;
	}
	if (got != 0) {
		free(bytes);
		return -ENOMEM;
	}
	*ret_bytes = bytes;
	*ret_n = used;
	return 0;
}

static int finish(struct config_draft *draft, int fd, pid_t child)
{
	char *bytes = NULL;
	size_t n = 0;
	int status = 0;
	int rc = receive(fd, &bytes, &n);

	/* It ends now: where we read no further, at its next write. */
	(void)close(fd);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (rc == 0 && status == 0)
		rc = unpack(draft, (struct parcel){bytes, n});
	else
		draft->no_memory = true;
	free(bytes);
	return draft->no_memory ? -ENOMEM : rc;
}

int config_child_read(struct config_draft *draft, const char *file)
{
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) != 0) {
		config_complain(draft, file, "cannot be read now: %s",
			strerrordesc_np(errno));
		return -EIO;
	}
	child = fork();
	if (child == 0)
		work(draft, file, ends[1]);
	(void)close(ends[1]);
	if (child > 0)
		return finish(draft, ends[0], child);
	config_complain(
		draft, file, "cannot be read now: %s", strerrordesc_np(errno));
	(void)close(ends[0]);
	return -EIO;
}
