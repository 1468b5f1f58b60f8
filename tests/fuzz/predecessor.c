/*
 * What a successor makes of the board that an rgovd of its own uid left: torn
 * by a death anywhere, or written over.  It starts, and when it goes again it
 * holds nothing of it.
 */
#include "coordinator/governor.h"
#include "tests/fuzz/board.h"

enum { STAMPS = 2 }; /* patches of patch_stamps() */

static struct loop *loop;
static struct config *config;

static char *no_variable(const char *name)
{
	(void)name;
	return NULL;
}

static void read_config(void)
{
	static const char text[] =
		"upstream \"bedrock\" { region = \"us-east-1\" }\n"
		"model \"*sonnet*\" { tokens_per_minute = 1000\n"
		"tokens_per_day = 5000 }\n";
	char path[32];
	struct config_error error = {0};
	const struct config_source source = {.name = board_name,
		.file = fuzz_file(0, text, sizeof(text) - 1, path),
		.getenv = no_variable};

	if (config_load(&source, &config, &error) != 0)
		(void)fprintf(stderr, "%s\n", error.text[0]);
	MUST(config != NULL);
}

static void read_boot_id(uint8_t ret_id[16])
{
	static uint8_t id[16];
	static bool is_known;
	struct board_writer writer = {.board = NULL};

	if (!is_known) { /* rgovd's own way to say it */
		MUST(board_create("fuzz-boot-id", &writer) == 0);
		memcpy(id, writer.board->header.boot_id, sizeof(id));
		board_fini(&writer);
		is_known = true;
	}
	memcpy(ret_id, id, sizeof(id));
}

static void begin(void)
{
	if (loop == NULL) {
		(void)setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null", 1);
		(void)setenv("AWS_CONFIG_FILE", "/dev/null", 1);
		log_open(LOG_LOGFMT, LOG_ERROR);
		MUST(loop_create(LOOP_AUTO, &loop) == 0);
		board_prepare();
		read_config();
	}
	board_sign();
	board->header.owner_uid = geteuid();
	read_boot_id(board->header.boot_id);
	(void)strcpy(board->lanes[0].name, "us.anthropic.claude-sonnet-4");
}

static void succeed(void)
{
	static struct governor governor;
	char why[UPSTREAM_MESSAGE_BYTES];
	int rc;

	memset(&governor, 0, sizeof(governor));
	MUST(board_create(board_name, &governor.board) == 0);
	MUST(governor_init(&governor, loop, config, why) == 0);
	rc = restore_from_board(&governor, loop_now_ns());
	/* With nothing but starts and permits on it, it is believed. */
	MUST(rc >= 0 || n_patches > STAMPS);
	governor_pump(&governor);
	(void)loop_step(loop, 0);
	show_heartbeat(&governor, loop_now_ns());
	governor_leave(&governor);
	governor_fini(&governor);
	board_fini(&governor.board);
	(void)loop_step(loop, 0);
}

/* What restoring looks at, in the near past; wherever the run wants it. */
static void patch_stamps(struct fuzz *fuzz)
{
	uint64_t now_ns = loop_now_ns();
	uint8_t n = fuzz_byte(fuzz);

	store_relaxed(board->header.starts, n);
	remember_patch(board->start_ring, n * sizeof(board->start_ring[0]));
	for (int i = 0; i < n % 32; i++)
		store_relaxed(board->start_ring[i].started_ns,
			now_ns - (uint64_t)fuzz_byte(fuzz) * 500000000);
	remember_patch(board->live, 4 * sizeof(board->live[0]));
	for (int i = 0; i < n / 64; i++) {
		board->live[i].state = BOARD_LIVE_PERMIT;
		board->live[i].pid = fuzz_byte(fuzz) & 1 ? getpid() : 1;
		board->live[i].expires_ns = now_ns + 1000000;
		board->live[i].tokens = fuzz_number(fuzz, 2);
		(void)strcpy(board->live[i].user, "alice");
		(void)strcpy(board->live[i].model, "x.sonnet");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};

	begin();
	patch_stamps(&fuzz);
	while (fuzz.left > 0 && n_patches < PATCHES)
		board_patch(&fuzz);
	succeed();
	board_wipe();
	return 0;
}
