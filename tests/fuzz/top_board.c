/*
 * A board with any bytes anywhere, as the tools read it: the look, the checker,
 * the JSON document, which must be one, and every screen of rgov-top, which may
 * hold nothing that a terminal obeys.
 */
#include "shm-layout/shm_check.h"
#include "shm-layout/shm_layout.h"
#include "tests/fuzz/fuzz.h"
#include "tools/board-view/board_json.h"
#include "tools/rgov-top/screen.h"

#include <fcntl.h>
#include <jansson.h>
#include <locale.h>
#include <time.h>

enum { PATCHES = 64 };

static char name[SHM_NAME_BYTES];
static struct board *board;
static struct {
	size_t at, bytes;
} patches[PATCHES];
static size_t n_patches;

static void remove_board(void)
{
	char object[SHM_OBJECT_NAME_BYTES];

	board_object_name(name, object);
	(void)shm_unlink(object);
}

static void sign(void)
{
	struct board_header *header = &board->header;

	header->layout_version = SHM_LAYOUT_VERSION;
	header->layout_hash = shm_layout_hash();
	header->total_bytes = sizeof(*board);
	store_release(header->magic, SHM_BOARD_MAGIC);
}

static void prepare(void)
{
	char object[SHM_OBJECT_NAME_BYTES];
	int fd;

	if (board != NULL)
		return;
	(void)setlocale(LC_ALL, "C.UTF-8");
	(void)snprintf(name, sizeof(name), "fuzz-%d", (int)getpid());
	board_object_name(name, object);
	fd = shm_open(object, O_RDWR | O_CREAT | O_EXCL, 0600);
	MUST(fd >= 0 && ftruncate(fd, sizeof(*board)) == 0);
	(void)atexit(remove_board);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED,
		fd, 0);
	MUST(board != MAP_FAILED);
	(void)close(fd);
}

/* ------------------------------------------------------------ the board */

struct table {
	void *first;
	size_t record, n;
};

/* Where bytes of the run go: the first records of a table, and its last. */
static struct table table_of(uint8_t which)
{
	const struct table tables[] = {
		{&board->header, sizeof(board->header), 1},
		{&board->counters, sizeof(board->counters), 1},
		{&board->host, sizeof(board->host), 1},
		{board->lanes, sizeof(board->lanes[0]), SHM_BOARD_LANES},
		{board->users, sizeof(board->users[0]), SHM_BOARD_USERS},
		{board->live, sizeof(board->live[0]), SHM_BOARD_LIVE},
		{board->recent, sizeof(board->recent[0]), SHM_BOARD_EVENTS},
		{board->start_ring, sizeof(board->start_ring[0]),
			SHM_BOARD_STARTS},
	};

	return tables[which % (sizeof(tables) / sizeof(tables[0]))];
}

static void remember_patch(const void *at, size_t bytes)
{
	patches[n_patches].at = (size_t)((const char *)at - (char *)board);
	patches[n_patches++].bytes = bytes;
}

static void patch(struct fuzz *fuzz)
{
	uint8_t which = fuzz_byte(fuzz), place = fuzz_byte(fuzz);
	struct table table = table_of(which);
	size_t record = place == 0xff ? table.n - 1 : place % 8 % table.n;
	size_t at = fuzz_number(fuzz, 2) % table.record;
	size_t bytes = 1 + fuzz_byte(fuzz) % 64;
	char *to = (char *)table.first + record * table.record;

	if (bytes > table.record - at)
		bytes = table.record - at;
	remember_patch(to, table.record);
	(void)fuzz_bytes(fuzz, to + at, bytes);
	/* Most records are in use, and whole. */
	if (which < 0xf0 && table.n > 1)
		*(uint32_t *)(void *)to = 2;
}

static void wipe(void)
{
	while (n_patches > 0) {
		n_patches--;
		memset((char *)board + patches[n_patches].at, 0,
			patches[n_patches].bytes);
	}
	memset(&board->header, 0, sizeof(board->header));
}

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

	prepare();
	sign();
	while (fuzz.left > 0 && n_patches < PATCHES)
		patch(&fuzz);
	if (view_open(name, &view) == 0) {
		look_at_it(view, how);
		view_free(view);
	}
	wipe();
	return 0;
}
