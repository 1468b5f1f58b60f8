/*
 * The frame of every unit test: a table of tests, each with its claim as a
 * sentence, run by CUnit; the last line is `N passed, N failed, N skipped`.
 *
 *     static void wraps_at_the_end(void) { CU_ASSERT_EQUAL(...); }
 *     SUITE("window", T(wraps_at_the_end), T(...))
 */
#ifndef TESTS_UNIT_SUITE_H
#define TESTS_UNIT_SUITE_H

#include <CUnit/CUnit.h>
#include <CUnit/TestRun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct suite_test {
	const char *name;
	void (*run)(void);
};

#define T(function)                                                            \
	{                                                                      \
#function, function                                            \
	}

static int suite_passed, suite_failed, suite_skipped;
static const char *suite_skip_reason;

/* Ends the test as skipped; say why.  Return from the test right after. */
__attribute__((unused)) static void suite_skip(const char *why)
{
	suite_skip_reason = why;
}

/* ../shared/testdata, or what RGOV_TESTDATA names; NULL: not here, skip. */
__attribute__((unused)) static const char *suite_testdata(void)
{
	const char *dir = getenv("RGOV_TESTDATA");

	if (dir == NULL)
		dir = "../shared/testdata";
	return access(dir, R_OK) == 0 ? dir : NULL;
}

static void suite_start(const CU_pTest test, const CU_pSuite suite)
{
	(void)test;
	(void)suite;
	suite_skip_reason = NULL;
}

static void suite_end(const CU_pTest test, const CU_pSuite suite,
	const CU_pFailureRecord fail)
{
	if (fail != NULL)
		suite_failed++;
	else if (suite_skip_reason != NULL)
		suite_skipped++;
	else
		suite_passed++;
	printf("%s %s: %s%s%s\n",
		fail                ? "FAIL"
		: suite_skip_reason ? "skip"
				    : "ok",
		suite->pName, test->pName, suite_skip_reason ? " # " : "",
		suite_skip_reason ? suite_skip_reason : "");
	for (CU_pFailureRecord f = fail; f != NULL; f = f->pNext)
		printf("     %s:%u: %s\n", f->strFileName, f->uiLineNumber,
			f->strCondition);
	fflush(stdout);
}

/* word: only the tests whose names contain it; NULL: all. */
static int suite_main(const char *name, const char *word,
	const struct suite_test *tests, size_t n)
{
	CU_pSuite suite;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 70;
	suite = CU_add_suite(name, NULL, NULL);
	for (size_t i = 0; i < n; i++)
		if (word == NULL || strstr(tests[i].name, word) != NULL)
			CU_add_test(suite, tests[i].name, tests[i].run);
	CU_set_test_start_handler(suite_start);
	CU_set_test_complete_handler(suite_end);
	CU_run_all_tests();
	CU_cleanup_registry();
	printf("%d passed, %d failed, %d skipped\n", suite_passed, suite_failed,
		suite_skipped);
	return suite_failed != 0;
}

#define SUITE(name, ...)                                                       \
	int main(int argc, char **argv)                                        \
	{                                                                      \
		static const struct suite_test tests[] = {__VA_ARGS__};        \
		return suite_main(name, argc > 1 ? argv[1] : NULL, tests,      \
			sizeof(tests) / sizeof(tests[0]));                     \
	}

#endif
