/* What a failed call of the library has to say. */
#include "client-lib/words.h"

#include "client-lib/rgov.h"
#include "tests/unit/suite.h"

#include <errno.h>

/* The last words of one failure may be a part of the next one's. */
static void words_may_quote_the_last_ones(void)
{
	CU_ASSERT_EQUAL(fail(-ESTALE, "refused: no session"), -ESTALE);
	CU_ASSERT_EQUAL(fail(-ECONNRESET, "rgovd came back: %s", rgov_why()),
		-ECONNRESET);
	CU_ASSERT_STRING_EQUAL(
		rgov_why(), "rgovd came back: refused: no session");
}

static void long_words_are_cut(void)
{
	char text[2048];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	(void)fail(-EINVAL, "%s", text);
	CU_ASSERT(strlen(rgov_why()) > 256);
	CU_ASSERT(strlen(rgov_why()) < sizeof(text) - 1);
	(void)fail(-EINVAL, "short");
	CU_ASSERT_STRING_EQUAL(rgov_why(), "short");
}

SUITE("client words", T(words_may_quote_the_last_ones), T(long_words_are_cut))
