/*
 * rgov-top: what a governor does, live.  Read-only on its board, so it works
 * while rgovd hangs and after it died, and changes nothing when it is stopped
 * or killed itself.
 */
#include "shm-layout/shm_layout.h"
#include "tools/board-view/board_json.h"
#include "tools/command-line/options.h"
#include "tools/rgov-top/terminal.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum { PLAIN_COLUMNS = 100 }; /* of a file */

static const struct option_row option_rows[] = {
#define OPTION(letter, name, argument, help)                                   \
	{NULL, letter, name, argument, help},
#include "tools/rgov-top/options.def"
#undef OPTION
};
enum { OPTION_ROWS = sizeof(option_rows) / sizeof(option_rows[0]) };

struct settings {
	const char *name;
	bool once, json, color, ascii;
	double iterations; /* 0: not said */
	struct screen screen;
};

static void print_help(void)
{
	(void)puts("Usage: rgov-top [OPTION]...\n"
		   "Shows what a governor (rgovd) does: limits, queue, lanes, "
		   "users, requests.\n");
	options_print(option_rows, OPTION_ROWS, NULL, stdout);
	(void)puts("\nKeys: q quit, ? help with the meaning of each figure, "
		   "Tab or 1-7 views.\n"
		   "Exit codes: 0; 64 wrong usage; 69 no board.");
}

static int usage_error(const char *option, const char *value, const char *want)
{
	(void)fprintf(stderr, "rgov-top: %s: expected %s, found '%s'\n", option,
		want, value);
	return EX_USAGE;
}

/* 0, or EX_USAGE after saying what is wrong.  Exits for --help. */
static int take_option(struct settings *settings, int letter, const char *value)
{
	switch (letter) {
	case 'S':
		settings->name = value;
		return 0;
	case 'd':
		if (options_number(
			    value, 0.1, 3600, &settings->screen.interval_s) < 0)
			return usage_error(
				"--delay", value, "0.1 to 3600 seconds");
		return 0;
	case 'n':
		if (options_number(value, 1, 1e9, &settings->iterations) < 0)
			return usage_error(
				"--iterations", value, "a number from 1");
		return 0;
	case '1':
		settings->once = true;
		return 0;
	case 'j':
		settings->json = true;
		return 0;
	case 'v':
		settings->screen.shown = screen_view_by_name(value);
		if (settings->screen.shown < SCREEN_OVERVIEW)
			return usage_error("--view", value,
				"overview, lanes, users, live, queue, events "
				"or "
				"counters");
		return 0;
	case 'f':
		(void)snprintf(settings->screen.filter,
			sizeof(settings->screen.filter), "%s", value);
		return 0;
	case 'C':
		settings->color = false;
		return 0;
	case 'U':
		settings->ascii = true;
		return 0;
	case 'h':
		print_help();
		exit(0);
	case 'V':
		(void)printf("rgov-top %s, layout %d (%016llx)\n", RGOV_VERSION,
			SHM_LAYOUT_VERSION,
			(unsigned long long)shm_layout_hash());
		exit(0);
	default: /* getopt has said what is wrong */
		(void)fputs("Try 'rgov-top --help'.\n", stderr);
		return EX_USAGE;
	}
}

static int take_arguments(struct settings *settings, int argc, char **argv)
{
	struct option_tables tables;
	int letter, rc;

	options_prepare(option_rows, OPTION_ROWS, NULL, &tables);
	while ((letter = getopt_long(argc, argv, tables.letters, tables.names,
			NULL)) != -1) {
		rc = take_option(settings, letter, optarg);
		if (rc != 0)
			return rc;
	}
	if (optind < argc)
		return usage_error(
			"arguments", argv[optind], "none (see --help)");
	if (!shm_name_is_valid(settings->name))
		return usage_error("--name", settings->name,
			"1 to 31 letters, digits, '.', '_' or '-'");
	return 0;
}

/* ------------------------------------------------------------ plain output */

static int plain_columns(void)
{
	const char *text = getenv("COLUMNS");
	struct winsize size;
	double columns;

	if (text != NULL && options_number(text, 20, 1000, &columns) == 0)
		return (int)columns;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
		return size.ws_col;
	return PLAIN_COLUMNS;
}

static int print_screen(struct settings *settings,
	const struct board_view *view, const struct history *history)
{
	struct history_delta recent;
	struct look look = {view, &recent};
	struct canvas *canvas;

	history_delta(history, view, &recent);
	canvas = screen_plain(
		&settings->screen, &look, plain_columns(), settings->ascii);
	if (canvas == NULL)
		return -ENOMEM;
	canvas_print(canvas, stdout);
	canvas_free(canvas);
	return fflush(stdout) == EOF ? -EIO : 0;
}

static void sleep_s(double seconds)
{
	struct timespec span = {.tv_sec = (time_t)seconds};

	span.tv_nsec = (long)((seconds - (double)span.tv_sec) * 1e9);
	while (nanosleep(&span, &span) < 0 && errno == EINTR)
		;
}

static int run_plain(struct settings *settings, struct board_view *view)
{
	static struct history history; /* too large for a stack */
	unsigned long n = settings->iterations > 0
				  ? (unsigned long)settings->iterations
				  : 1;
	int rc = 0;

	for (unsigned long i = 0; i < n && rc == 0; i++) {
		if (i > 0) {
			sleep_s(settings->screen.interval_s);
			view_refresh(view);
			if (!settings->json)
				(void)putchar('\n');
		}
		history_add(&history, view);
		rc = settings->json ? board_json_print(view,
					      settings->iterations > 0, stdout)
				    : print_screen(settings, view, &history);
	}
	return rc;
}

/* ------------------------------------------------------------ main */

static int run_terminal(struct settings *settings, struct board_view *view)
{
	struct terminal_options options = {
		.color = settings->color,
		.ascii = settings->ascii,
		.iterations = (unsigned long)settings->iterations,
	};

	return terminal_run(view, &settings->screen, &options);
}

static int run(struct settings *settings)
{
	struct board_view *view;
	char words[512];
	int rc = view_open(settings->name, &view);

	if (rc < 0) {
		view_open_error(settings->name, rc, words, sizeof(words));
		(void)fprintf(stderr, "rgov-top: %s\n", words);
		return EX_UNAVAILABLE;
	}
	if (settings->once || settings->json || !terminal_is_usable())
		rc = run_plain(settings, view);
	else
		rc = run_terminal(settings, view);
	view_free(view);
	if (rc == 0)
		return 0;
	(void)fprintf(
		stderr, "rgov-top: cannot show the board: %s\n", strerror(-rc));
	return rc == -ENOMEM ? EX_OSERR : EX_IOERR;
}

int main(int argc, char **argv)
{
	const char *no_color = getenv("NO_COLOR");
	static struct settings settings;
	int rc;

	/* Characters only: figures have a point in every language. */
	(void)setlocale(LC_CTYPE, "");
	settings = (struct settings){
		.name = view_default_name(),
		.color = no_color == NULL || no_color[0] == '\0',
		.ascii = strcmp(nl_langinfo(CODESET), "UTF-8") != 0,
	};
	screen_init(&settings.screen);
	rc = take_arguments(&settings, argc, argv);
	return rc != 0 ? rc : run(&settings);
}
