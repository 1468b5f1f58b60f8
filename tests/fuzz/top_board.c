/*
 * A board with any bytes anywhere, as the tools read it: the look, the checker,
 * the JSON document, which must be one, and every screen of rgov-top, which may
 * hold nothing that a terminal obeys.
 */
#include "shm-layout/shm_check.h"
#include "tests/fuzz/board.h"
#include "tools/board-view/board_json.h"
#include "tools/rgov-top/screen.h"

#include <jansson.h>
#include <locale.h>
#include <time.h>

/* ------------------------------------------------------------ the looks */

static void judge_json(const struct board_view *view, bool compact)
{
	json_error_t error;
	json_t *document;
	char *text;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	MUST(out != NULL && board_json_print(view, compact, out) == 0);
	MUST(fclose(out) == 0 && bytes > 0 && text[bytes - 1] == '\n');
	document = json_loadb(text, bytes, 0, &error);
	if (document == NULL)
		(void)fprintf(stderr, "%s: %s\n", error.text, text);
	MUST(json_is_object(document));
	json_decref(document);
	free(text);
}

/* No controls, C0 or C1, but line breaks; and UTF-8 throughout. */
static void judge_text(const char *text)
{
	mbstate_t state = {0};
	wchar_t character;

	while (*text != '\0') {
		size_t n = mbrtowc(&character, text, 8, &state);

		MUST(n > 0 && n <= 8);
		MUST(character == '\n' ||
			(character >= 0x20 && character != 0x7f &&
				(character < 0x80 || character >= 0xa0)));
		text += n;
	}
}

static void judge_canvas(struct canvas *canvas)
{
	char *text;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	MUST(canvas != NULL && out != NULL);
	canvas_print(canvas, out);
	MUST(fclose(out) == 0);
	judge_text(text);
	free(text);
	canvas_free(canvas);
}

static void judge_screens(const struct board_view *view, uint8_t how)
{
	static struct history history;
	struct history_delta recent;
	struct look look = {.board = view, .recent = &recent};
	struct screen screen;
	struct canvas *canvas = canvas_create(30, 80 + how % 80, false);

	memset(&history, 0, sizeof(history));
	history_add(&history, view);
	history_delta(&history, view, &recent);
	screen_init(&screen);
	screen.shown = how % (VIEW_IDS + 1) - 1;
	judge_canvas(screen_plain(&screen, &look, 100 + how % 64, how & 0x80));
	MUST(canvas != NULL);
	screen_draw(&screen, canvas, &look);
	judge_canvas(canvas);
}

static void look_at_it(struct board_view *view, uint8_t how)
{
	const struct shm_check check = {.is_quiet = how & 1};
	char text[256];

	(void)shm_check_board(&check, board);
	view_health_text(view, text, sizeof(text));
	judge_text(text);
	judge_json(view, how & 1);
	judge_screens(view, how);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	uint8_t how = fuzz_byte(&fuzz);
	struct board_view *view;

	(void)setlocale(LC_ALL, "C.UTF-8");
	board_prepare();
	board_sign();
	while (fuzz.left > 0 && n_patches < PATCHES)
		board_patch(&fuzz);
	if (view_open(board_name, &view) == 0) {
		look_at_it(view, how);
		view_free(view);
	}
	board_wipe();
	return 0;
}
