#include "tools/rgov-top/terminal.h"

#include <curses.h>
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <term.h>
#include <time.h>
#include <unistd.h>

/* curses.h of ncursesw calls its macros like functions of ours. */
#undef lines
#undef columns

enum { ESCAPE = 27, CONTROL_C = 3, DELETE = 127, PAGE = 10 };
static const double INTERVAL_LEAST_S = 0.1, INTERVAL_MOST_S = 3600;

struct terminal {
	struct board_view *view;
	struct screen *screen;
	const struct terminal_options *options;
	struct history history;
	attr_t styles[STYLES];
	int signals; /* a signalfd for those that end us */
	bool quits;
};

bool terminal_is_usable(void)
{
	const char *term = getenv("TERM");
	bool can_move;
	int error;

	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO) || term == NULL ||
		term[0] == '\0' || strcmp(term, "dumb") == 0 ||
		setupterm(NULL, STDOUT_FILENO, &error) != OK)
		return false;
	can_move = cursor_address != NULL;
	(void)del_curterm(cur_term);
	return can_move;
}

/* ------------------------------------------------------------ styles */

static void set_styles(struct terminal *terminal)
{
	attr_t *styles = terminal->styles;
	bool color = terminal->options->color && has_colors();

	styles[STYLE_PLAIN] = A_NORMAL;
	styles[STYLE_DIM] = A_DIM;
	styles[STYLE_BOLD] = A_BOLD;
	styles[STYLE_GOOD] = A_NORMAL;
	styles[STYLE_WARN] = A_BOLD;
	styles[STYLE_BAD] = A_BOLD | A_REVERSE;
	styles[STYLE_TITLE] = A_REVERSE;
	styles[STYLE_KEY] = A_REVERSE | A_BOLD;
	if (!color || start_color() == ERR)
		return;
	(void)use_default_colors();
	(void)init_pair(1, COLOR_GREEN, -1);
	(void)init_pair(2, COLOR_YELLOW, -1);
	(void)init_pair(3, COLOR_RED, -1);
	styles[STYLE_GOOD] = (attr_t)COLOR_PAIR(1);
	styles[STYLE_WARN] = (attr_t)COLOR_PAIR(2);
	styles[STYLE_BAD] = (attr_t)COLOR_PAIR(3) | A_BOLD;
}

/* ------------------------------------------------------------ drawing */

static void blit_row(
	const struct terminal *terminal, const struct canvas *canvas, int row)
{
	for (int column = 0; column < canvas->columns; column++) {
		const struct canvas_cell *cell =
			canvas_cell(canvas, row, column);
		attr_t style = terminal->styles[cell->style];
		wchar_t text[2] = {cell->character, L'\0'};
		cchar_t character;

		if (cell->character == 0)
			continue;
		if (setcchar(&character, text, style, (short)PAIR_NUMBER(style),
			    NULL) == OK)
			(void)mvadd_wch(row, column, &character);
	}
}

static void draw(struct terminal *terminal)
{
	struct history_delta recent;
	struct look look = {terminal->view, &recent};
	struct canvas *canvas =
		canvas_create(LINES, COLS, terminal->options->ascii);

	if (canvas == NULL)
		return; /* the old picture stays */
	history_delta(&terminal->history, terminal->view, &recent);
	screen_draw(terminal->screen, canvas, &look);
	(void)erase();
	for (int row = 0; row < canvas->rows; row++)
		blit_row(terminal, canvas, row);
	(void)refresh();
	canvas_free(canvas);
}

/* ------------------------------------------------------------ keys */

static void type_key(struct screen *screen, int key)
{
	size_t n = strlen(screen->filter);

	if (key == ESCAPE)
		screen->filter[0] = '\0';
	if (key == ESCAPE || key == '\n' || key == '\r' || key == KEY_ENTER)
		screen->typing = false;
	else if ((key == KEY_BACKSPACE || key == DELETE || key == '\b') &&
		 n > 0)
		screen->filter[n - 1] = '\0';
	else if (key >= ' ' && key < DELETE && n + 1 < sizeof(screen->filter)) {
		screen->filter[n] = (char)key;
		screen->filter[n + 1] = '\0';
	}
}

/* Rows to move, down or up; 0: not a key that moves. */
static int scroll_rows(int key)
{
	int page = LINES > 2 * PAGE ? LINES / 2 : PAGE;

	switch (key) {
	case 'j':
	case KEY_DOWN:
		return 1;
	case 'k':
	case KEY_UP:
		return -1;
	case KEY_NPAGE:
		return page;
	case KEY_PPAGE:
		return -page;
	case 'G':
	case KEY_END:
		return VIEW_ROWS_MAX;
	case 'g':
	case KEY_HOME:
		return -VIEW_ROWS_MAX;
	default:
		return 0;
	}
}

/* The drawing keeps offsets within what there is to see. */
static void scroll_table(struct table_state *table, int rows)
{
	if (rows < 0 && table->offset < (size_t)-rows)
		table->offset = 0;
	else
		table->offset += (size_t)rows;
}

static void help_key(struct screen *screen, int key)
{
	int rows = scroll_rows(key);

	if (rows == 0)
		screen->help = false;
	else
		screen->help_offset += rows;
}

static void show(struct screen *screen, int view)
{
	if (view < SCREEN_OVERVIEW)
		view = VIEW_IDS - 1;
	screen->shown = view >= (int)VIEW_IDS ? SCREEN_OVERVIEW : view;
}

static void sort_by(struct screen *screen, int step)
{
	enum view_id id = screen_table(screen);
	int n = view_tables[id].n_columns;
	struct table_state *table = &screen->tables[id];

	table->sort = (table->sort + step + n) % n;
	table->offset = 0;
}

static void change_interval(struct screen *screen, double factor)
{
	double interval_s = screen->interval_s * factor;

	if (interval_s >= INTERVAL_LEAST_S && interval_s <= INTERVAL_MOST_S)
		screen->interval_s = interval_s;
}

static void command_key(struct terminal *terminal, int key)
{
	struct screen *screen = terminal->screen;
	struct table_state *table = &screen->tables[screen_table(screen)];

	if (key >= '1' && key <= '1' + (int)VIEW_IDS) {
		show(screen, key - '2');
		return;
	}
	switch (key) {
	case 'q':
	case CONTROL_C:
	case KEY_F(10):
		terminal->quits = true;
		return;
	case '?':
	case 'h':
	case KEY_F(1):
		screen->help = true;
		return;
	case '\t':
		show(screen, screen->shown + 1);
		return;
	case KEY_BTAB:
		show(screen, screen->shown - 1);
		return;
	case '<':
		sort_by(screen, -1);
		return;
	case '>':
	case KEY_F(6):
		sort_by(screen, 1);
		return;
	case 'r':
		table->descending = !table->descending;
		return;
	case '/':
		screen->typing = true;
		return;
	case ESCAPE:
		screen->filter[0] = '\0';
		return;
	case ' ':
		screen->paused = !screen->paused;
		return;
	case '+':
		change_interval(screen, 2);
		return;
	case '-':
		change_interval(screen, 0.5);
		return;
	case '\f': /* as everywhere: draw all of it again */
		(void)clearok(curscr, TRUE);
		return;
	default:
		scroll_table(table, scroll_rows(key));
	}
}

static void handle_key(struct terminal *terminal, int key)
{
	if (key == KEY_RESIZE)
		return; /* curses has the new size; drawing uses it */
	if (terminal->screen->typing)
		type_key(terminal->screen, key);
	else if (terminal->screen->help && key != CONTROL_C)
		help_key(terminal->screen, key);
	else
		command_key(terminal, key);
}

/* ------------------------------------------------------------ running */

static double now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Sleeps until a key, a signal or the time; handles what came. */
static void wait_until(struct terminal *terminal, double until_s)
{
	struct pollfd fds[] = {
		{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = terminal->signals, .events = POLLIN},
	};
	double left_s = until_s - now_s();
	int key, n, keys = 0;

	/* Rounded up: 0 ms left must not spin. */
	n = poll(fds, 2, left_s > 0 ? (int)(left_s * 1e3) + 1 : 0);
	if (n < 0 && errno != EINTR) {
		terminal->quits = true;
		return;
	}
	/* Also after EINTR: a new size of the window comes as a key. */
	while ((key = getch()) != ERR) {
		handle_key(terminal, key);
		keys++;
	}
	if (n > 0 && (fds[1].revents != 0 ||
			     /* Readable without a key: the terminal is gone. */
			     (fds[0].revents != 0 && keys == 0)))
		terminal->quits = true;
}

static void run(struct terminal *terminal)
{
	unsigned long looks = 0;
	double next_s = now_s();

	while (!terminal->quits) {
		if (now_s() >= next_s) {
			if (terminal->options->iterations != 0 &&
				looks++ == terminal->options->iterations)
				return;
			if (!terminal->screen->paused) {
				view_refresh(terminal->view);
				history_add(&terminal->history, terminal->view);
			}
			next_s = now_s() + terminal->screen->interval_s;
		}
		draw(terminal);
		wait_until(terminal, next_s);
	}
}

/* The signals that end us, as something to poll.  They stay blocked: one that
 * is pending would otherwise end us a second time, in curses' handler. */
static int catch_signals(void)
{
	sigset_t ends;

	(void)sigemptyset(&ends);
	(void)sigaddset(&ends, SIGINT);
	(void)sigaddset(&ends, SIGTERM);
	(void)sigaddset(&ends, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &ends, NULL);
	return signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
}

int terminal_run(struct board_view *view, struct screen *screen,
	const struct terminal_options *options)
{
	struct terminal *terminal = calloc(1, sizeof(*terminal));
	SCREEN *curses;

	if (terminal == NULL)
		return -ENOMEM;
	terminal->view = view;
	terminal->screen = screen;
	terminal->options = options;
	curses = newterm(NULL, stdout, stdin);
	if (curses == NULL) {
		free(terminal);
		return -ENOTTY;
	}
	terminal->signals = catch_signals();
	(void)cbreak();
	(void)noecho();
	(void)nonl();
	(void)keypad(stdscr, TRUE);
	(void)nodelay(stdscr, TRUE);
	(void)set_escdelay(25);
	(void)curs_set(0);
	set_styles(terminal);
	run(terminal);
	(void)endwin();
	delscreen(curses);
	(void)close(terminal->signals);
	free(terminal);
	return 0;
}
