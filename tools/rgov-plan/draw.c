#include "tools/rgov-plan/draw.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TOKENS 1e12

/* The finaliser of splitmix64. */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

double draw_fraction(
	struct draw_stream stream, enum draw_purpose purpose, uint64_t number)
{
	uint64_t bits = mix(
		mix(mix(mix(stream.seed) ^ stream.owner) ^ (uint64_t)purpose) ^
		number);

	return ((double)(bits >> 12) + 0.5) * 0x1p-52;
}

/* Standard normal, by Box and Muller; one of the pair is enough. */
static double normal(struct draw_stream stream, uint64_t number)
{
	double u = draw_fraction(stream, DRAW_LATENCY, number);
	double v = draw_fraction(stream, DRAW_LATENCY_2, number);

	return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}

static double seconds(const struct draw_spread *spread,
	struct draw_stream stream, uint64_t number)
{
	double u;

	if (spread->kind == DRAW_FIXED)
		return spread->a;
	if (spread->kind == DRAW_LOGNORMAL)
		return spread->a * exp(spread->b * normal(stream, number));
	u = draw_fraction(stream, DRAW_LATENCY, number);
	return spread->kind == DRAW_EXP
		       ? -spread->a * log(u)
		       : spread->a + (spread->b - spread->a) * u;
}

uint64_t draw_time_ns(const struct draw_spread *spread,
	struct draw_stream stream, uint64_t number)
{
	double s = fmin(seconds(spread, stream, number), DRAW_MOST_S);

	return (uint64_t)(s * 1e9);
}

uint64_t draw_tokens(const struct draw_spread *spread,
	struct draw_stream stream, enum draw_purpose purpose, uint64_t number)
{
	double u, tokens;

	if (spread->kind == DRAW_FIXED)
		return (uint64_t)spread->a;
	u = draw_fraction(stream, purpose, number);
	tokens = spread->a + floor(u * (spread->b - spread->a + 1));
	return (uint64_t)fmin(tokens, spread->b);
}

/* ------------------------------------------------------------ words */

static bool read_number(const char *text, const char **ret_end, double *ret)
{
	char *end;

	/* strtod() takes blanks, signs, hex and names of infinity. */
	if (strspn(text, "0123456789.") == 0)
		return false;
	errno = 0;
	*ret = strtod(text, &end);
	*ret_end = end;
	return end != text && errno == 0 && isfinite(*ret) &&
	       strpbrk(text, "xX") == NULL;
}

static bool read_time(const char *text, const char **ret_end, double *ret_s)
{
	static const struct {
		const char *unit;
		double s;
	} units[] = {
		{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};

	if (!read_number(text, ret_end, ret_s))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i].unit);

		if (strncmp(*ret_end, units[i].unit, n) != 0)
			continue;
		*ret_end += n;
		*ret_s *= units[i].s;
		break;
	}
	return *ret_s <= DRAW_MOST_S;
}

bool draw_read_time(const char *text, double *ret_s)
{
	const char *end;

	return read_time(text, &end, ret_s) && *end == '\0';
}

bool draw_read_latency(const char *text, struct draw_spread *ret_spread)
{
	static const struct {
		const char *word;
		enum draw_kind kind;
		bool takes_two;
	} kinds[] = {{"fixed:", DRAW_FIXED, false},
		{"uniform:", DRAW_UNIFORM, true}, {"exp:", DRAW_EXP, false},
		{"lognormal:", DRAW_LOGNORMAL, true}};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct draw_spread spread = {.kind = kinds[i].kind};
		size_t n = strlen(kinds[i].word);
		const char *end;

		if (strncmp(text, kinds[i].word, n) != 0)
			continue;
		if (!read_time(text + n, &end, &spread.a))
			return false;
		if (kinds[i].takes_two &&
			(*end != ',' || !read_time(end + 1, &end, &spread.b)))
			return false;
		if (*end != '\0' ||
			(spread.kind == DRAW_UNIFORM && spread.b < spread.a) ||
			(spread.kind == DRAW_LOGNORMAL && spread.b > 10))
			return false;
		*ret_spread = spread;
		return true;
	}
	return false;
}

bool draw_read_tokens(const char *text, struct draw_spread *ret_spread)
{
	struct draw_spread spread = {.kind = DRAW_FIXED};
	const char *end;

	if (!read_number(text, &end, &spread.a))
		return false;
	if (*end == ',') {
		spread.kind = DRAW_UNIFORM;
		if (!read_number(end + 1, &end, &spread.b))
			return false;
	} else {
		spread.b = spread.a;
	}
	if (*end != '\0' || spread.b < spread.a || spread.b > MOST_TOKENS)
		return false;
	*ret_spread = spread;
	return true;
}
