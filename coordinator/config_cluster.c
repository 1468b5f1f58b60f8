/*
 * The settings by which several hosts share one quota: what may be said, and
 * what goes together.
 */
#include "coordinator/config_private.h"

#include <string.h>
#include <unistd.h>

enum { ACCOUNT_BYTES = 64, HOST_BYTES = 128 };

static const struct config_origin *origin_of(
	const struct config_draft *draft, enum config_key_index key)
{
	return &draft->config->own->origins[key];
}

/* Both become part of the names of keys: one word, no brace. */
static void check_word(struct config_draft *draft, enum config_key_index key,
	const char *word, size_t most)
{
	size_t bytes = strlen(word);
	char quoted[CONFIG_FOUND_BYTES];

	if (bytes >= 1 && bytes <= most &&
		strspn(word,
			"abcdefghijklmnopqrstuvwxyz"
			"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") == bytes)
		return;
	config_complain(draft, origin_of(draft, key)->text,
		"%s: expected 1 to %zu of A-Z a-z 0-9 . _ / -, found %s",
		config_keys[key].name, most, config_value_quote(word, quoted));
}

/* "web1/default": the same after a restart, and no other governor's. */
static void choose_host(struct config_draft *draft)
{
	char name[64] = "";

	if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0')
		(void)strcpy(name, "localhost");
	for (char *at = name; *at != '\0'; at++)
		if (strchr("{} \t\"", *at) != NULL)
			*at = '-';
	config_set(draft, &config_keys[CONFIG_K_FLAT_cluster_host],
		CONFIG_DEFAULT,
		config_printf(draft, "%s/%s", name, draft->config->name),
		"default");
}

/* A password in a file that all may read is worth a word. */
static void warn_of_readers(struct config_draft *draft)
{
	const struct config_cluster *cluster = &draft->config->cluster;
	const struct config_origin *origin =
		origin_of(draft, CONFIG_K_FLAT_cluster);

	if (origin->rank == CONFIG_OF_OPTION &&
		strchr(cluster->url, '@') != NULL)
		config_warn(draft, origin->text,
			"cluster: a password on the command line can be read "
			"by every user of this host; the environment "
			"(RGOV_CLUSTER) or a file of mode 0600 keeps it");
}

void config_check_cluster(struct config_draft *draft)
{
	struct config *config = draft->config;
	const struct config_cluster *cluster = &config->cluster;

	if (cluster->host == NULL)
		choose_host(draft);
	if (cluster->url == NULL || cluster->host == NULL)
		return;
	check_word(draft, CONFIG_K_FLAT_cluster_account, cluster->account,
		ACCOUNT_BYTES);
	check_word(
		draft, CONFIG_K_FLAT_cluster_host, cluster->host, HOST_BYTES);
	warn_of_readers(draft);
	if (cluster->on_loss == LEASE_SHARE && cluster->hosts == 0)
		config_complain(draft,
			origin_of(draft, CONFIG_K_FLAT_cluster)->text,
			"cluster: on_cluster_loss = share needs cluster_hosts "
			"(how many hosts share the quota), found none");
	if (strncmp(cluster->url, "rediss:", 7) != 0 &&
		cluster->ca_file != NULL)
		config_warn(draft,
			origin_of(draft, CONFIG_K_FLAT_cluster_ca_file)->text,
			"cluster_ca_file has no effect: only rediss:// is TLS");
}
