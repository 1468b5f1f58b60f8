#include "tools/rgov-plan/report.h"

#include <errno.h>
#include <jansson.h>

/* So that two runs can be compared by eye: microseconds are enough. */
static json_t *real(double number)
{
	double scaled = number * 1e6;

	if (scaled > -9e15 && scaled < 9e15)
		number = (double)(int64_t)(scaled + (scaled < 0 ? -0.5 : 0.5)) /
			 1e6;
	return json_real(number);
}

static json_t *real_or_null(double number)
{
	return number < 0 ? json_null() : real(number);
}

static json_t *count(uint64_t number)
{
	return json_integer((json_int_t)number);
}

static json_t *row_json(const struct plan_row *row)
{
	return json_pack("{so so so so so so so so so so}", "requests",
		count(row->requests), "started", count(row->n_waits),
		"avg_wait_s", real(plan_average_s(row)), "p50_wait_s",
		real(plan_quantile_s(row, 0.5)), "p95_wait_s",
		real(plan_quantile_s(row, 0.95)), "max_wait_s",
		real(plan_quantile_s(row, 1)), "refused", count(row->refused),
		"deadline", count(row->deadline), "failed", count(row->failed),
		"throttled", count(row->throttled));
}

static json_t *users_json(const struct report_run *run)
{
	json_t *users = json_array();

	for (size_t i = 0; i < run->plan->load->n_users; i++) {
		const struct plan_row *row = &run->result.users[i];
		json_t *one = row_json(row);

		(void)json_object_set_new(one, "user", json_string(row->name));
		(void)json_object_set_new(one, "app", json_string(row->app));
		(void)json_array_append_new(users, one);
	}
	return users;
}

static json_t *classes_json(const struct report_run *run)
{
	json_t *classes = json_object();

	for (int c = 0; c < POLICY_CLASSES; c++)
		if (run->result.classes[c].requests > 0)
			(void)json_object_set_new(classes,
				report_class_names[c],
				row_json(&run->result.classes[c]));
	return classes;
}

static json_t *utilisation_json(const struct measure *measure)
{
	json_t *limits = json_array();

	for (size_t i = 0; i < measure->n_scopes; i++) {
		const struct measure_scope *scope = &measure->scopes[i];

		for (int l = 0; l < MEASURE_LIMITS; l++) {
			enum measure_limit limit = (enum measure_limit)l;

			if (measure_limit(scope, limit) == 0)
				continue;
			(void)json_array_append_new(limits,
				json_pack("{ss? ss so so so}", "model",
					scope->name, "limit",
					report_limit_names[l], "value",
					count(measure_limit(scope, limit)),
					"wanted_s", real(scope->wanted_s),
					"used",
					scope->wanted_s > 0
						? real(measure_use(
							  scope, limit))
						: json_null()));
		}
	}
	return limits;
}

static json_t *ideal_json(const struct plan_ideal *ideal)
{
	return json_pack("{so so so so}", "total_s", real(ideal->total_s),
		"avg_wait_s", real(plan_average_s(&ideal->all)), "p95_wait_s",
		real(plan_quantile_s(&ideal->all, 0.95)), "max_wait_s",
		real(plan_quantile_s(&ideal->all, 1)));
}

static json_t *run_json(const struct report_run *run, const char *what)
{
	const struct plan_result *result = &run->result;
	struct report_ratios ratios = report_ratios(run);

	return json_pack("{ss? so so so so so so so so so s{so so s{so}} so so "
			 "so so}",
		"set", what, "all", row_json(&result->all), "classes",
		classes_json(run), "users", users_json(run), "utilisation",
		utilisation_json(&result->measure), "throttled",
		count(result->throttled), "retries", count(result->retries),
		"probes", count(result->probes), "jain",
		real_or_null(result->jain), "total_s", real(result->total_s),
		"schedules", "fifo", ideal_json(&run->ideals[PLAN_FIFO]),
		"fair", ideal_json(&run->ideals[PLAN_FAIR]), "bound", "total_s",
		real(run->ideals[PLAN_BOUND].total_s), "total_over_ideal",
		real_or_null(ratios.total_over_ideal), "total_over_bound",
		real_or_null(ratios.total_over_bound), "wait_over_fair",
		real_or_null(ratios.wait_over_fair), "wait_over_fifo",
		real_or_null(ratios.wait_over_fifo));
}

int report_json(
	const struct report_run *runs, size_t n, const char *what, FILE *out)
{
	const struct load *load = runs[0].plan->load;
	json_t *all = json_array(), *document;
	int rc;

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(
			all, run_json(&runs[i], i == 0 ? NULL : what));
	document = json_pack("{si so so so}", "rgov_plan", 1, "seed",
		count(load->seed), "bad_lines", count(load->bad_lines), "runs",
		all);
	if (document == NULL)
		return -ENOMEM;
	rc = json_dumpf(
		document, out, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	(void)fputc('\n', out);
	json_decref(document);
	return rc < 0 && !ferror(out) ? -ENOMEM : 0;
}
