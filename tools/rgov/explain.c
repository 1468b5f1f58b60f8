#include "tools/rgov/explain.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>

static const char *const fates[] = {[RGOV_F_QUEUED] = "queued",
	[RGOV_F_BACKING_OFF] = "backing off",
	[RGOV_F_RUNNING] = "running",
	[RGOV_F_PERMIT_OUT] = "permit out",
	[RGOV_F_ENDED] = "ended"};

static bool is_waiting(const struct rgov_explanation *of)
{
	return of->fate == RGOV_F_QUEUED || of->fate == RGOV_F_BACKING_OFF;
}

static double seconds(uint64_t ns)
{
	return (double)ns * 1e-9;
}

/* ------------------------------------------------------------ words */

static const char *ordinal(uint32_t n)
{
	static const char *const ends[] = {"th", "st", "nd", "rd"};
	uint32_t last = n % 10;

	return n / 10 % 10 == 1 || last > 3 ? ends[0] : ends[last];
}

static void print_limit(const struct rgov_explanation *of)
{
	bool has_figures = of->limit != 0;
	bool ends_by_time = of->until_ns != UINT64_MAX && of->until_ns != 0;

	if (!has_figures && !ends_by_time)
		return;
	(void)fputs(" (", stdout);
	if (has_figures)
		(void)printf(
			"%" PRIu64 " of %" PRIu64 " used", of->used, of->limit);
	if (ends_by_time)
		(void)printf("%snot before %.1f s from now",
			has_figures ? ", " : "", seconds(of->until_ns));
	(void)putchar(')');
}

/* The first reasons are no limits, but words of their own. */
static void print_reason(const struct rgov_explanation *of)
{
	(void)printf("; %s%s", of->reason <= RGOV_W_BACKOFF ? "" : "held by ",
		rgov_reason_text(of->reason));
	print_limit(of);
	(void)printf("; predicted start in %.1f s", seconds(of->predicted_ns));
}

static void print_waits(
	const struct rgov_explanation *of, const char *introduction)
{
	const char *before = introduction;

	for (int i = 0; i < RGOV_REASONS_ROOM; i++) {
		if (of->waited_ns[i] == 0)
			continue;
		(void)printf("%s%s %.1f s", before,
			rgov_reason_text((enum rgov_reason)i),
			seconds(of->waited_ns[i]));
		before = ", ";
	}
}

static void print_waiting(const struct rgov_explanation *of)
{
	(void)printf("%s %.1f s", fates[of->fate], seconds(of->waiting_ns));
	if (of->position != 0)
		(void)printf(", %" PRIu32 "%s in order", of->position,
			ordinal(of->position));
	print_reason(of);
	print_waits(of, "; waited so far: ");
}

static void print_wait_before(const struct rgov_explanation *of)
{
	if (of->waiting_ns == 0)
		return;
	(void)printf("; it waited %.1f s", seconds(of->waiting_ns));
	print_waits(of, ": ");
}

static const char *plural(uint32_t n)
{
	return n == 1 ? "" : "s";
}

void explain_print(const struct rgov_explanation *of)
{
	(void)printf("request %" PRIu64 " of %s for %s: ", of->request,
		of->user, of->model);
	if (is_waiting(of))
		print_waiting(of);
	else if (of->fate == RGOV_F_ENDED)
		(void)printf("ended %.1f s ago: %s after %" PRIu32 " attempt%s",
			seconds(of->since_ns), rgov_result_name(of->result),
			of->attempts, plural(of->attempts));
	else
		(void)printf("%s for %.1f s", fates[of->fate],
			seconds(of->since_ns));
	if (!is_waiting(of))
		print_wait_before(of);
	(void)putchar('\n');
}

/* ------------------------------------------------------------ JSON */

/* Rounded to the microsecond: more digits are noise. */
static json_t *span(uint64_t ns)
{
	return json_real(round(seconds(ns) * 1e6) / 1e6);
}

static json_t *waits(const struct rgov_explanation *of)
{
	json_t *object = json_object();

	for (int i = 0; i < RGOV_REASONS_ROOM; i++)
		if (of->waited_ns[i] != 0)
			(void)json_object_set_new(object,
				rgov_reason_name((enum rgov_reason)i),
				span(of->waited_ns[i]));
	return object;
}

static json_t *count(uint64_t n)
{
	return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

static void put_why(json_t *to, const struct rgov_explanation *of)
{
	json_t *ends =
		of->until_ns == UINT64_MAX ? json_null() : span(of->until_ns);

	(void)json_object_set_new(to, "position", count(of->position));
	(void)json_object_set_new(
		to, "held_by", json_string(rgov_reason_name(of->reason)));
	(void)json_object_set_new(
		to, "held_by_text", json_string(rgov_reason_text(of->reason)));
	(void)json_object_set_new(to, "held_ends_in_s", ends);
	(void)json_object_set_new(to, "used", count(of->used));
	(void)json_object_set_new(to, "limit", count(of->limit));
	(void)json_object_set_new(to, "predicted_s", span(of->predicted_ns));
}

json_t *explain_json(const struct rgov_explanation *of)
{
	json_t *to = json_object();

	(void)json_object_set_new(to, "request", count(of->request));
	(void)json_object_set_new(to, "state", json_string(fates[of->fate]));
	(void)json_object_set_new(to, "user", json_string(of->user));
	(void)json_object_set_new(to, "model", json_string(of->model));
	(void)json_object_set_new(to, "attempts", count(of->attempts));
	(void)json_object_set_new(to, "wait_s", span(of->waiting_ns));
	(void)json_object_set_new(to, "waited_s", waits(of));
	if (is_waiting(of)) {
		put_why(to, of);
	} else if (of->fate == RGOV_F_ENDED) {
		(void)json_object_set_new(to, "result",
			json_string(rgov_result_name(of->result)));
		(void)json_object_set_new(
			to, "ended_age_s", span(of->since_ns));
	} else {
		(void)json_object_set_new(
			to, "execution_s", span(of->since_ns));
	}
	return to;
}
