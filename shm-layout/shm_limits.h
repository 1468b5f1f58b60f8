/*
 * Every size and bound of the contract between processes, in one place.
 * Changing one changes the layout hash (shm_layout.c): all processes restart.
 */
#ifndef SHM_LIMITS_H
#define SHM_LIMITS_H

enum {
	SHM_LAYOUT_VERSION = 1,

	SHM_LINE = 64, /* bytes of a cache line: one writer each */
	SHM_PAGE = 4096,

	SHM_SLOTS_MIN = 1,
	SHM_SLOTS_MAX = 1024, /* requests a session can have outstanding */
	SHM_SLOTS_DEFAULT = 64,
	SHM_RING_PER_SLOT =
		8, /* see "Why the ring cannot overflow", LAYOUT.md */

	SHM_USER_BYTES = 64,      /* with the final zero */
	SHM_APP_BYTES = 64,       /* application label, with the final zero */
	SHM_MODEL_BYTES = 2048,   /* the provider's longest model id */
	SHM_HEADERS_BYTES = 2048, /* "Name: value\n" lines */

	SHM_CODE_BYTES = 64,       /* error type, with the final zero */
	SHM_REQUEST_ID_BYTES = 64, /* the provider's, with the final zero */
	SHM_MESSAGE_BYTES = 256,   /* error text, with the final zero */

	SHM_BODY_MAX = 25000000, /* bytes: the provider's limit */
	SHM_BODY_REGION =
		24 * 1024 * 1024, /* bytes a slot owns in a body file */

	SHM_BOARD_LANES = 64,
	SHM_CLUSTER_TEXT_BYTES = 192,
	SHM_BOARD_USERS = 256,
	SHM_BOARD_LIVE = 2048,
	SHM_BOARD_EVENTS = 256,
	SHM_BOARD_STARTS = 131072, /* see shm_board.h: covers any window */
	SHM_BOARD_BUCKETS = 64,

	SHM_REASONS_MAX = 24,        /* to wait for: shm_reasons.def */
	SHM_OTHER_MODEL_BYTES = 256, /* of a fallback, with the final zero */

	SHM_TASK_ID_BYTES = 16,
	SHM_TASK_KEY_BYTES = 128,       /* an idempotency key */
	SHM_TASK_CALLBACK_BYTES = 1024, /* a URL */
	SHM_TASK_TEXT_BYTES = 128,      /* searched for */
	SHM_TASK_ROWS_MAX = 1000,       /* of one list */
	SHM_TASK_EVENTS_MAX = 256,      /* of one history */

	SHM_NAME_BYTES = 32, /* a governor's name, with the final zero */
};

#endif
