#include "tools/rgov-plan/report.h"

#include <string.h>

enum { MOST_USERS = 20 };

const char *const report_limit_names[MEASURE_LIMITS] = {
	"max_concurrent_requests", "requests_per_minute", "tokens_per_minute"};
const char *const report_class_names[POLICY_CLASSES] = {
	"interactive", "normal", "batch"};

static double ratio(double a, double b)
{
	return b > 0 ? a / b : -1;
}

struct report_ratios report_ratios(const struct report_run *run)
{
	const struct plan_ideal *ideals = run->ideals;
	double wait_s = plan_average_s(&run->result.all);
	double ideal_s = ideals[PLAN_FIFO].total_s;

	/* The schedules serve everybody: that is more work. */
	if (run->result.all.refused + run->result.all.deadline > 0)
		return (struct report_ratios){-1, -1, -1, -1};
	if (ideals[PLAN_FAIR].total_s < ideal_s)
		ideal_s = ideals[PLAN_FAIR].total_s;
	return (struct report_ratios){
		.total_over_ideal = ratio(run->result.total_s, ideal_s),
		.total_over_bound =
			ratio(run->result.total_s, ideals[PLAN_BOUND].total_s),
		.wait_over_fair =
			ratio(wait_s, plan_average_s(&ideals[PLAN_FAIR].all)),
		.wait_over_fifo =
			ratio(wait_s, plan_average_s(&ideals[PLAN_FIFO].all)),
	};
}

/* ------------------------------------------------------------ tables */

static void print_row(const char *name, const struct plan_row *row, FILE *out)
{
	(void)fprintf(out,
		"%-24.24s %9llu %9.2f %9.2f %9.2f %9.2f %8llu %8llu %8llu "
		"%9llu\n",
		name, (unsigned long long)row->requests, plan_average_s(row),
		plan_quantile_s(row, 0.5), plan_quantile_s(row, 0.95),
		plan_quantile_s(row, 1), (unsigned long long)row->refused,
		(unsigned long long)row->deadline,
		(unsigned long long)row->failed,
		(unsigned long long)row->throttled);
}

static void print_rows(const struct report_run *run, FILE *out)
{
	const struct plan_result *result = &run->result;
	size_t n_users = run->plan->load->n_users;

	(void)fprintf(out, "%-24s %9s %9s %9s %9s %9s %8s %8s %8s %9s\n",
		"waits in seconds", "requests", "average", "p50", "p95", "max",
		"refused", "deadline", "failed", "throttled");
	print_row("all", &result->all, out);
	for (int c = 0; c < POLICY_CLASSES; c++)
		if (result->classes[c].requests > 0)
			print_row(report_class_names[c], &result->classes[c],
				out);
	for (size_t i = 0; i < n_users && i < MOST_USERS; i++) {
		char name[64];
		const struct plan_row *row = &result->users[i];

		(void)snprintf(name, sizeof(name), "  %s%s%s", row->app,
			row->app[0] ? "/" : "", row->name);
		for (char *at = name; *at != '\0'; at++)
			if ((unsigned char)*at < 0x20 || *at == 0x7f)
				*at = '?';
		print_row(name, row, out);
	}
	if (n_users > MOST_USERS)
		(void)fprintf(out,
			"  and %zu more users: --json has them all\n",
			n_users - MOST_USERS);
}

static void print_limits(const struct report_run *run, FILE *out)
{
	const struct measure *measure = &run->result.measure;

	(void)fprintf(out, "\n%-50s %12s %10s\n", "in use while somebody waits",
		"limit", "");
	for (size_t i = 0; i < measure->n_scopes; i++) {
		const struct measure_scope *scope = &measure->scopes[i];

		for (int l = 0; l < MEASURE_LIMITS; l++) {
			enum measure_limit limit = (enum measure_limit)l;
			uint64_t most = measure_limit(scope, limit);
			char name[80];

			if (most == 0)
				continue;
			(void)snprintf(name, sizeof(name), "%.40s%s%s",
				scope->name ? scope->name : "",
				scope->name ? " " : "", report_limit_names[l]);
			(void)fprintf(out, "%-50.50s %12llu", name,
				(unsigned long long)most);
			if (scope->wanted_s > 0)
				(void)fprintf(out, " %8.1f %%\n",
					100 * measure_use(scope, limit));
			else
				(void)fprintf(out, " %10s\n", "-");
		}
	}
}

static void print_over(const char *words, double over, FILE *out)
{
	if (over >= 0)
		(void)fprintf(out, "%s%.3f", words, over);
}

static void print_schedules(const struct report_run *run, FILE *out)
{
	static const char *const names[PLAN_SCHEDULES] = {
		"best in order of arrival", "best and fair",
		"bound for any rule"};
	struct report_ratios ratios = report_ratios(run);
	const struct plan_result *result = &run->result;

	(void)fprintf(out, "\n%-26s %12s %12s %12s\n", "schedule", "total s",
		"avg wait s", "p95 wait s");
	(void)fprintf(out, "%-26s %12.2f %12.2f %12.2f\n", "this policy",
		result->total_s, plan_average_s(&result->all),
		plan_quantile_s(&result->all, 0.95));
	for (int s = 0; s < PLAN_BOUND; s++)
		(void)fprintf(out, "%-26s %12.2f %12.2f %12.2f\n", names[s],
			run->ideals[s].total_s,
			plan_average_s(&run->ideals[s].all),
			plan_quantile_s(&run->ideals[s].all, 0.95));
	(void)fprintf(out, "%-26s %12.2f\n", names[PLAN_BOUND],
		run->ideals[PLAN_BOUND].total_s);
	if (ratios.total_over_ideal < 0)
		(void)fputs("not comparable: the schedules serve everybody, "
			    "this policy did not",
			out);
	print_over("total over ideal ", ratios.total_over_ideal, out);
	print_over(", over bound ", ratios.total_over_bound, out);
	print_over("; wait over fair ", ratios.wait_over_fair, out);
	print_over(", over fifo ", ratios.wait_over_fifo, out);
	(void)fputc('\n', out);
}

static void print_run(const struct report_run *run, FILE *out)
{
	const struct plan_result *result = &run->result;

	print_rows(run, out);
	print_limits(run, out);
	(void)fprintf(out, "\nthrottled %llu, retries %llu, probes %llu",
		(unsigned long long)result->throttled,
		(unsigned long long)result->retries,
		(unsigned long long)result->probes);
	if (result->jain >= 0)
		(void)fprintf(out, "; fairness (Jain) %.4f", result->jain);
	(void)fputc('\n', out);
	print_schedules(run, out);
}

/* ------------------------------------------------------------ two runs */

static void print_change(
	const char *name, double before, double after, FILE *out)
{
	(void)fprintf(out, "%-26s %12.2f %12.2f", name, before, after);
	if (before > 0)
		(void)fprintf(
			out, " %+11.1f %%", 100 * (after - before) / before);
	(void)fputc('\n', out);
}

static void print_changes(
	const struct report_run *runs, const char *what, FILE *out)
{
	const struct plan_result *a = &runs[0].result, *b = &runs[1].result;

	(void)fprintf(
		out, "\n%-26s %12s %12s   %s\n", "", "before", "after", what);
	for (int c = -1; c < POLICY_CLASSES; c++) {
		const struct plan_row *x = c < 0 ? &a->all : &a->classes[c];
		const struct plan_row *y = c < 0 ? &b->all : &b->classes[c];
		const char *who = c < 0 ? "all" : report_class_names[c];
		char name[48];

		if (x->requests + y->requests == 0)
			continue;
		(void)snprintf(name, sizeof(name), "%s: average wait s", who);
		print_change(name, plan_average_s(x), plan_average_s(y), out);
		(void)snprintf(name, sizeof(name), "%s: p95 wait s", who);
		print_change(name, plan_quantile_s(x, 0.95),
			plan_quantile_s(y, 0.95), out);
	}
	print_change("total s", a->total_s, b->total_s, out);
	print_change(
		"refused", (double)a->all.refused, (double)b->all.refused, out);
	print_change("ended by their deadline", (double)a->all.deadline,
		(double)b->all.deadline, out);
	print_change(
		"throttled", (double)a->throttled, (double)b->throttled, out);
}

void report_text(
	const struct report_run *runs, size_t n, const char *what, FILE *out)
{
	const struct load *load = runs[0].plan->load;

	if (load->trace != NULL)
		(void)fprintf(out, "%zu requests of %zu users from a trace",
			load->n_trace, load->n_users);
	else
		(void)fprintf(out, "%zu users, seed %llu", load->n_users,
			(unsigned long long)load->seed);
	if (load->bad_lines > 0)
		(void)fprintf(out, ", %llu bad lines left out",
			(unsigned long long)load->bad_lines);
	(void)fputs("\n\n", out);
	print_run(&runs[0], out);
	if (n == 1)
		return;
	(void)fprintf(out, "\n--- with %s\n\n", what);
	print_run(&runs[1], out);
	print_changes(runs, what, out);
}
