/*
 * The judge's own book: every start and every charge as they happened, written
 * down by who plays, and looked through at the end.  Knows the limits and
 * nothing of how they are kept.
 */
#ifndef TESTS_UNIT_POLICY_BOOK_H
#define TESTS_UNIT_POLICY_BOOK_H

#include "tests/unit/policy/script.h"

enum {
	BOOK_MOST = 1024,
	BOOK_USERS = SCRIPT_USERS * SCRIPT_APPS,
	BOOK_ALL = -1,
	BOOK_DEFAULT_LANE = SCRIPT_MODELS,
};

struct book_entry {
	uint64_t at_ns, end_ns; /* end: UINT64_MAX while it runs */
	uint64_t tokens, back;  /* reserved; given back at the end */
	int lane, user;
};

struct book {
	struct book_entry starts[BOOK_MOST], runs[BOOK_MOST];
	int n_starts, n_runs;
};

/* By its lane's name, and by its user's and application's. */
struct book_entry book_entry(
	const struct policy_request *request, uint64_t now_ns);

/* What is above which limit, in words; NULL: nothing is. */
const char *book_judge(const struct book *book,
	const struct policy_config *config,
	const struct script_settings *settings);

#endif
