/* The command line of bedrock-sim. */
#include "tools/bedrock-sim/options.h"

#include <assert.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "tools/bedrock-sim/memory.h"
#include "tools/bedrock-sim/take.h"

enum { PORT_DEFAULT = 8790 };

struct row {
	const char *name, *metavar, *help;
	take_function *take;
	size_t offset;
};

static take_function take_help, take_version;

static const struct row rows[] = {
#define OPTION(option, meta, how, field, text)                                 \
	{.name = option,                                                       \
		.metavar = meta,                                               \
		.help = text,                                                  \
		.take = how,                                                   \
		.offset = offsetof(struct options, field)},
#include "tools/bedrock-sim/options.def"
#undef OPTION
};
enum { ROWS = sizeof(rows) / sizeof(*rows) };
static_assert(ROWS < ' ', "getopt's ':' and '?' and letters are no row");

/* Ends the program; stdout must have got everything. */
_Noreturn static void end_well(void)
{
	exit(fflush(stdout) == 0 ? EX_OK : EX_IOERR);
}

static const char *take_help(char *text, void *ret_value)
{
	(void)text;
	(void)ret_value;
	puts("usage: bedrock-sim [OPTION...]\n\n"
	     "Simulates the runtime endpoint of AWS Bedrock on loopback: "
	     "checks "
	     "signatures,\njudges quotas, injects faults, keeps an exact "
	     "log.\n");
	for (size_t i = 0; i < ROWS; i++) {
		char left[64];

		(void)snprintf(left, sizeof(left), "--%s%s%s", rows[i].name,
			rows[i].metavar ? " " : "",
			rows[i].metavar ? rows[i].metavar : "");
		printf("  %s%s%s\n", left,
			strlen(left) > 24
				? "\n                            "
				: &"                          "[strlen(left)],
			rows[i].help);
	}
	printf("\nKIND is one of:");
	for (enum fault_kind k = FAULT_NONE + 1; k <= FAULT_HANG; k++)
		printf("%s%s%s", k % 6 == 1 ? "\n  " : " ",
			fault_facts(k)->name,
			fault_facts(k)->effect == FAULT_DELAYS ? ":SECONDS"
							       : "");
	puts("\n\nSIGTERM ends it, SIGUSR1 writes the report.  GET "
	     "/_sim/report,"
	     " POST /_sim/reset,\nPOST /_sim/set?NAME=VALUE and GET "
	     "/_sim/healthz are its own pages.");
	end_well();
}

static const char *take_version(char *text, void *ret_value)
{
	(void)text;
	(void)ret_value;
	puts("bedrock-sim (rgov) " RGOV_VERSION);
	end_well();
}

_Noreturn static void refuse(const char *sentence)
{
	(void)fprintf(stderr,
		"bedrock-sim: %s; `bedrock-sim --help` lists the options\n",
		sentence);
	exit(EX_USAGE);
}

static void take_row(
	const struct row *row, char *value, struct options *options)
{
	char *original = value ? memory_text(value) : NULL;
	const char *wanted =
		row->take(value, (unsigned char *)options + row->offset);

	if (wanted != NULL) {
		(void)fprintf(stderr, "bedrock-sim: --%s '%s': %s\n", row->name,
			original ? original : "", wanted);
		exit(EX_USAGE);
	}
	free(original);
}

static void refuse_word(const char *problem, const char *word)
{
	char sentence[256];

	(void)snprintf(sentence, sizeof(sentence), "%s '%s'", problem, word);
	refuse(sentence);
}

static void read_words(int argc, char **argv, struct options *options)
{
	struct option table[ROWS + 1] = {0};
	int index;

	for (int i = 0; i < ROWS; i++)
		table[i] = (struct option){.name = rows[i].name,
			.has_arg = rows[i].metavar ? required_argument
						   : no_argument,
			.val = i};
	opterr = 0;
	/* The leading ':' tells a missing value from an unknown option. */
	while ((index = getopt_long(argc, argv, ":", table, NULL)) != -1) {
		if (index == ':')
			refuse_word("no value after", argv[optind - 1]);
		if (index == '?' && optopt > ' ')
			refuse_word("unknown option",
				(char[]){'-', (char)optopt, '\0'});
		if (index == '?')
			refuse_word(
				"unknown option, or one that takes no value:",
				argv[optind - 1]);
		take_row(&rows[index], optarg, options);
	}
	if (optind < argc)
		refuse_word("unexpected argument", argv[optind]);
}

/* What is wrong only in combination. */
static void check_together(struct options *options)
{
	if (options->port == PORT_NONE && options->tls_port == PORT_NONE)
		options->port = PORT_DEFAULT;
	if (options->tls_port != PORT_NONE &&
		(options->cert == NULL || options->key == NULL))
		refuse("--tls-port needs --cert and --key");
	if (options->tls_port == PORT_NONE &&
		(options->cert != NULL || options->key != NULL))
		refuse("--cert and --key need --tls-port");
	if (options->port > 0 && options->port == options->tls_port)
		refuse("--port and --tls-port are the same");
	if (strlen(options->access_key) > 128 ||
		strlen(options->secret_key) > 256 ||
		strlen(options->region) > 64)
		refuse("--access-key, --secret-key or --region is too long");
	if (strchr(options->access_key, '/') != NULL ||
		strchr(options->region, '/') != NULL)
		refuse("--access-key and --region cannot contain a '/'");
}

void options_parse(int argc, char **argv, struct options *ret_options)
{
	*ret_options = (struct options){
		.port = PORT_NONE,
		.tls_port = PORT_NONE,
		.auth_strict = true,
		.access_key = "AKIDEXAMPLE",
		/* The published example key of AWS's own documentation. */
		.secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
		.region = "us-east-1",
		.minute_s = 60.0,
		.host_wide = true,
		.latency = {.kind = LATENCY_FIXED},
		.output_tokens = {20, 200},
		.seed = 1,
	};
	read_words(argc, argv, ret_options);
	check_together(ret_options);
}
