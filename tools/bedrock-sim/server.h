/*
 * The HTTP side: libmicrohttpd's callbacks.  One thread for each of HTTP and
 * HTTPS; requests that sleep are suspended and cost no thread.
 */
#ifndef SIM_SERVER_H
#define SIM_SERVER_H

#include "tools/bedrock-sim/sim.h"

struct server_tls {
	char *certificate, *key; /* PEM; live as long as the program */
};

/*
 * Serves on a listening socket, which it takes over; tls NULL for plain HTTP.
 * It ends with the program.  False: the library refused.
 */
bool server_start(struct sim *sim, int listen_fd, const struct server_tls *tls);

#endif
