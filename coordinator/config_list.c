/*
 * Settings that are lists: users and groups, by number or by name from the user
 * database of the host; model ids.
 */
#include "coordinator/config_private.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BUFFER_MOST = 1 << 20 };

/* 0, -ENOENT, or -errno of the user database. */
static int look_up(bool group, const char *name, uint32_t *ret_id)
{
	int rc = ERANGE;

	for (size_t bytes = 4096; rc == ERANGE && bytes <= NAME_BUFFER_MOST;
		bytes *= 4) {
		char *buffer = malloc(bytes);
		struct passwd pw, *found_pw = NULL;
		struct group gr, *found_gr = NULL;

		if (buffer == NULL)
			return -ENOMEM;
		do
			rc = group ? getgrnam_r(name, &gr, buffer, bytes,
					     &found_gr)
				   : getpwnam_r(name, &pw, buffer, bytes,
					     &found_pw);
		while (rc == EINTR);
		if (found_pw != NULL)
			*ret_id = pw.pw_uid;
		else if (found_gr != NULL)
			*ret_id = gr.gr_gid;
		else if (rc == 0)
			rc = ENOENT;
		free(buffer);
	}
	return -rc;
}

/* 0, -ENOENT where there is no such id, or -errno of the user database. */
static int read_id(bool group, const char *word, uint32_t *ret_id)
{
	uint64_t number;

	if (!isdigit((unsigned char)word[0]))
		return look_up(group, word, ret_id);
	/* The last number means "no change" to chown() and friends. */
	if (!config_value_whole(word, &number) || number >= UINT32_MAX)
		return -ENOENT;
	*ret_id = (uint32_t)number;
	return 0;
}

static void refuse_id(struct config_draft *draft, const struct config_key *key,
	const char *word, int rc, const char *origin)
{
	char quoted[CONFIG_FOUND_BYTES];

	if (rc == -ENOMEM)
		draft->no_memory = true;
	else if (rc == -ENOENT)
		config_complain(draft, origin,
			"%s: expected a %s of this host, by name or number, "
			"found %s",
			key->name, key->type == CONFIG_GIDS ? "group" : "user",
			config_value_quote(word, quoted));
	else
		config_complain(draft, origin, "%s: cannot look up %s: %s",
			key->name, config_value_quote(word, quoted),
			strerror(-rc));
}

static int compare_ids(const void *a, const void *b)
{
	const uint32_t *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

bool config_ids_set(struct config_draft *draft, const struct config_key *key,
	struct config_ids *field, const char *text, const char *origin)
{
	char word[64];
	uint32_t ids[CONFIG_IDS] = {0};
	uint32_t *kept;
	size_t n = 0, distinct = 0;
	int rc;

	for (text += strspn(text, ", \t"); *text != '\0';
		text += strspn(text, ", \t")) {
		size_t bytes = strcspn(text, ", \t");

		snprintf(word, sizeof(word), "%.*s",
			(int)(bytes < sizeof(word) ? bytes : sizeof(word)),
			text);
		if (n == CONFIG_IDS) {
			config_complain(draft, origin,
				"%s: expected at most %d names", key->name,
				CONFIG_IDS);
			return false;
		}
		rc = bytes >= sizeof(word)
			     ? -ENOENT
			     : read_id(key->type == CONFIG_GIDS, word, &ids[n]);
		if (rc != 0) {
			refuse_id(draft, key, word, rc, origin);
			return false;
		}
		n++;
		text += bytes;
	}
	qsort(ids, n, sizeof(ids[0]), compare_ids);
	kept = config_alloc(draft, (n + 1) * sizeof(ids[0]));
	if (kept == NULL)
		return false;
	for (size_t i = 0; i < n; i++)
		if (i == 0 || ids[i] != ids[i - 1])
			kept[distinct++] = ids[i];
	*field = (struct config_ids){.ids = kept, .n = distinct};
	return true;
}

/* ------------------------------------------------------------ texts */

enum { MODEL_BYTES = 512 };

/* The next of the words, which are separated by commas, and *at NULL after the
 * last; NULL: no memory. */
static const char *next_word(struct config_draft *draft, const char **at)
{
	size_t bytes = strcspn(*at, ",");
	const char *word = config_printf(draft, "%.*s", (int)bytes, *at);

	*at = (*at)[bytes] == ',' ? *at + bytes + 1 : NULL;
	return word;
}

static bool is_model_id(const char *word)
{
	for (const char *at = word; *at != '\0'; at++)
		if (*at <= 0x20 || *at > 0x7e || strchr("\"'\\*?[]{}", *at))
			return false;
	return word[0] != '\0' && strlen(word) <= MODEL_BYTES;
}

static bool is_listed(const char *const *texts, size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(texts[i], word) == 0)
			return true;
	return false;
}

/* NULL: it may follow the n of texts; else what was expected. */
static const char *judge_model(
	const char *const *texts, size_t n, const char *word)
{
	if (n == CONFIG_FALLBACKS)
		return "at most 8 model ids";
	if (!is_model_id(word))
		return "model ids of 1 to 512 characters without blanks, "
		       "quotes and wildcards";
	if (is_listed(texts, n, word))
		return "each model id once";
	return NULL;
}
static_assert(CONFIG_FALLBACKS == 8 && MODEL_BYTES == 512, "in the words");

/* The same of what URLs begin with.  Whose address it is, is judged again with
 * each URL. */
static const char *judge_url_prefix(
	const char *const *texts, size_t n, const char *word)
{
	if (n == CONFIG_FALLBACKS)
		return "at most 8 beginnings of URLs";
	if (strncmp(word, "http://", 7) != 0 || word[7] == '\0' ||
		strlen(word) > 255 || word[strcspn(word, " \"<>\\^`{|}@")])
		return "beginnings of URLs of this host, as "
		       "http://127.0.0.1:8000/tasks/";
	if (strchr(word + 7, '/') == NULL)
		return "a path after the host, at least a slash: without it "
		       "other hosts would begin so, too";
	if (is_listed(texts, n, word))
		return "each URL once";
	return NULL;
}

bool config_texts_set(struct config_draft *draft, const struct config_key *key,
	struct config_texts *field, const char *text, const char *origin)
{
	const char **texts =
		config_alloc(draft, CONFIG_FALLBACKS * sizeof(*texts));
	char quoted[CONFIG_FOUND_BYTES];
	size_t n = 0;

	if (texts == NULL)
		return false;
	if (text[0] == '\0')
		text = NULL;
	while (text != NULL) {
		const char *word = next_word(draft, &text);
		const char *expected;

		if (word == NULL)
			return false;
		expected = key->type == CONFIG_URLS
				   ? judge_url_prefix(texts, n, word)
				   : judge_model(texts, n, word);
		if (expected != NULL) {
			config_complain(draft, origin,
				"%s: expected %s, found %s", key->name,
				expected, config_value_quote(word, quoted));
			return false;
		}
		texts[n++] = word;
	}
	*field = (struct config_texts){.texts = texts, .n = n};
	return true;
}
