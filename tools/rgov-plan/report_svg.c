/*
 * The picture: three panels over one axis of time.  Nothing but SVG 1.1 with
 * attributes, so that every viewer shows it.
 */
#include "tools/rgov-plan/report.h"

#include <math.h>
#include <string.h>

enum {
	WIDTH = 960,
	LEFT = 76,
	RIGHT = 24,
	PANEL = 168, /* height of one */
	GAP = 56,
	TOP = 84,
	PANELS = 3,
	HEIGHT = TOP + PANELS * (PANEL + GAP) + 8,
};

/* One line of a panel. */
struct curve {
	const struct report_run *run;
	double (*of)(const struct measure_sample *sample);
	const char *name, *colour;
	bool is_dashed;
};

enum { MOST_CURVES = 4 };

struct panel {
	const char *title;
	double most; /* of an axis in per cent; 0: that of the curves */
	struct curve curves[MOST_CURVES];
	size_t n;
};

static double queued(const struct measure_sample *sample)
{
	return sample->queued;
}

static double running(const struct measure_sample *sample)
{
	return sample->running;
}

static double requests(const struct measure_sample *sample)
{
	return 100 * sample->share[MEASURE_REQUESTS];
}

static double tokens(const struct measure_sample *sample)
{
	return 100 * sample->share[MEASURE_TOKENS];
}

static bool has_limit(const struct report_run *run, enum measure_limit limit)
{
	for (size_t i = 0; i < run->result.measure.n_scopes; i++)
		if (measure_limit(&run->result.measure.scopes[i], limit) > 0)
			return true;
	return false;
}

/* 1, 2 or 5 times a power of ten: about so many steps to the top. */
static double step_of(double most, double steps)
{
	double power = pow(10, floor(log10(most / steps)));
	double times = most / steps / power;

	return power * (times > 5 ? 10 : times > 2 ? 5 : times > 1 ? 2 : 1);
}

/* Steps that people count time in. */
static double time_step(double total_s)
{
	static const double steps[] = {1, 2, 5, 10, 15, 30, 60, 120, 300, 600,
		900, 1800, 3600, 7200, 14400, 21600, 43200, 86400};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (total_s / steps[i] <= 10)
			return total_s < 5 ? step_of(total_s, 5) : steps[i];
	return 86400 * step_of(total_s / 86400, 10);
}

static void print_time(double at_s, double step_s, FILE *out)
{
	if (step_s >= 86400)
		(void)fprintf(out, "%.0f d", at_s / 86400);
	else if (step_s >= 3600 || (step_s >= 60 && at_s >= 3600))
		(void)fprintf(out, "%.0f:%02.0f h", floor(at_s / 3600),
			fmod(at_s, 3600) / 60);
	else if (step_s >= 60)
		(void)fprintf(out, "%.0f min", at_s / 60);
	else
		(void)fprintf(out, "%.4g s", at_s);
}

static void print_text(const char *text, FILE *out)
{
	for (; *text != '\0'; text++) {
		if (*text == '&')
			(void)fputs("&amp;", out);
		else if (*text == '<')
			(void)fputs("&lt;", out);
		else if ((unsigned char)*text >= 0x20 && *text != 0x7f)
			(void)fputc(*text, out);
	}
}

/* ------------------------------------------------------------ a panel */

static double top_of(const struct panel *panel)
{
	double most = panel->most;

	for (size_t c = 0; c < panel->n; c++) {
		const struct measure *measure =
			&panel->curves[c].run->result.measure;

		for (size_t i = 0; i < measure->n_samples; i++)
			most = fmax(most,
				panel->curves[c].of(&measure->samples[i]));
	}
	return most > 0 ? most : 1;
}

static double x_of(double at_s, double total_s)
{
	return LEFT + at_s / total_s * (WIDTH - LEFT - RIGHT);
}

static void draw_grid(const struct panel *panel, double y, double total_s,
	double most, FILE *out)
{
	double step = step_of(most, 4), t_step = time_step(total_s);

	(void)fprintf(out, "<g stroke=\"#e4e7eb\">\n");
	for (int i = 0; i * step <= most * 1.0001; i++)
		(void)fprintf(out,
			"<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
			LEFT, WIDTH - RIGHT,
			y + PANEL - i * step / most * PANEL,
			y + PANEL - i * step / most * PANEL);
	for (int i = 0; i * t_step <= total_s; i++)
		(void)fprintf(out,
			"<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
			"y2=\"%.1f\"/>\n",
			x_of(i * t_step, total_s), x_of(i * t_step, total_s), y,
			y + PANEL);
	(void)fprintf(out, "</g>\n<g fill=\"#52606d\">\n");
	for (int i = 0; i * step <= most * 1.0001; i++)
		(void)fprintf(out,
			"<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g%s"
			"</text>\n",
			LEFT - 8, y + PANEL - i * step / most * PANEL + 4,
			i * step, panel->most > 0 ? " %" : "");
	for (int i = 0; i * t_step <= total_s; i++) {
		(void)fprintf(out,
			"<text x=\"%.1f\" y=\"%.1f\" "
			"text-anchor=\"middle\">",
			x_of(i * t_step, total_s), y + PANEL + 18);
		print_time(i * t_step, t_step, out);
		(void)fputs("</text>\n", out);
	}
	(void)fputs("</g>\n", out);
}

/* More points than that only make a line thick. */
enum { MOST_POINTS = 250 };

/* The mean of so many samples, from this one on. */
static double mean_of(const struct curve *curve, size_t from, size_t n)
{
	double sum = 0;

	for (size_t i = from; i < from + n; i++)
		sum += curve->of(&curve->run->result.measure.samples[i]);
	return sum / (double)n;
}

static void draw_curve(const struct curve *curve, double y, double total_s,
	double most, FILE *out)
{
	const struct measure *measure = &curve->run->result.measure;
	size_t step = measure->n_samples / MOST_POINTS + 1;

	if (measure->n_samples == 0)
		return;
	(void)fprintf(out,
		"<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\"%s "
		"stroke-linejoin=\"round\" d=\"",
		curve->colour,
		curve->is_dashed ? " stroke-dasharray=\"5 3\"" : "");
	for (size_t i = 0; i < measure->n_samples; i += step) {
		size_t n = measure->n_samples - i;
		double at_y =
			y + PANEL -
			mean_of(curve, i, n < step ? n : step) / most * PANEL;
		double at_x = x_of(measure->samples[i].at_s, total_s);

		if (i == 0)
			(void)fprintf(out, "M%.1f %.1f", at_x, at_y);
		else
			(void)fprintf(out, "H%.1fV%.1f", at_x, at_y);
	}
	(void)fputs("\"/>\n", out);
}

static void draw_legend(const struct panel *panel, double y, FILE *out)
{
	double x = WIDTH - RIGHT;

	for (size_t c = panel->n; c-- > 0;) {
		const struct curve *curve = &panel->curves[c];

		x -= 7.0 * (double)strlen(curve->name);
		(void)fprintf(out, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", x,
			y - 10, curve->name);
		x -= 30;
		(void)fprintf(out,
			"<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" "
			"stroke=\"%s\" stroke-width=\"2.4\"%s/>\n",
			x, x + 24, y - 14, y - 14, curve->colour,
			curve->is_dashed ? " stroke-dasharray=\"5 3\"" : "");
		x -= 18;
	}
}

static void draw_panel(
	const struct panel *panel, double y, double total_s, FILE *out)
{
	double most = top_of(panel) * (panel->most > 0 ? 1 : 1.05);

	(void)fprintf(out,
		"<text x=\"%d\" y=\"%.1f\" font-weight=\"bold\">%s</text>\n",
		LEFT, y - 10, panel->title);
	draw_grid(panel, y, total_s, most, out);
	for (size_t c = 0; c < panel->n; c++)
		draw_curve(&panel->curves[c], y, total_s, most, out);
	draw_legend(panel, y, out);
	(void)fprintf(out,
		"<path fill=\"none\" stroke=\"#9aa5b1\" d=\"M%d "
		"%.1fV%.1fH%d\"/>"
		"\n",
		LEFT, y, y + PANEL, WIDTH - RIGHT);
}

/* ------------------------------------------------------------ the whole */

static void add(struct panel *panel, const struct report_run *run,
	double (*of)(const struct measure_sample *), const char *name,
	const char *colour, bool is_dashed)
{
	panel->curves[panel->n++] =
		(struct curve){run, of, name, colour, is_dashed};
}

static void add_uses(
	struct panel *panel, const struct report_run *run, bool is_after)
{
	if (has_limit(run, MEASURE_REQUESTS))
		add(panel, run, requests,
			is_after ? "requests after" : "requests", "#d9480f",
			is_after);
	if (has_limit(run, MEASURE_TOKENS))
		add(panel, run, tokens, is_after ? "tokens after" : "tokens",
			"#6741d9", is_after);
}

void report_svg(
	const struct report_run *runs, size_t n, const char *what, FILE *out)
{
	struct panel panels[PANELS] = {0};
	double total_s = 1e-3;

	panels[0].title = "queued";
	panels[1].title = "running";
	panels[2].title = "use of the fullest limit per minute";
	panels[2].most = 100;
	for (size_t i = 0; i < n; i++) {
		const struct measure *measure = &runs[i].result.measure;
		const char *name = n == 1   ? "requests"
				   : i == 0 ? "before"
					    : "after";
		const char *colour = i == 0 ? "#1971c2" : "#e8590c";

		add(&panels[0], &runs[i], queued, name, colour, false);
		add(&panels[1], &runs[i], running, name, colour, false);
		add_uses(&panels[2], &runs[i], i == 1);
		if (measure->n_samples > 0)
			total_s = fmax(total_s,
				measure->samples[measure->n_samples - 1].at_s);
	}
	(void)fprintf(out,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
		"height=\"%d\" viewBox=\"0 0 %d %d\" "
		"font-family=\"sans-serif\" font-size=\"13\" "
		"fill=\"#1f2933\">\n"
		"<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n"
		"<text x=\"%d\" y=\"32\" font-size=\"18\" "
		"font-weight=\"bold\">rgov-plan: queue and use of the limits"
		"</text>\n<text x=\"%d\" y=\"52\" fill=\"#52606d\">",
		WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT, LEFT);
	if (n > 1) {
		(void)fputs("after: ", out);
		print_text(what, out);
	}
	(void)fputs("</text>\n", out);
	for (size_t p = 0; p < PANELS; p++)
		draw_panel(&panels[p], (double)(TOP + (PANEL + GAP) * (int)p),
			total_s, out);
	(void)fputs("</svg>\n", out);
}
