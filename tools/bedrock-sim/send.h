/* Hands an answer to the HTTP library, or breaks the connection on purpose. */
#ifndef SIM_SEND_H
#define SIM_SEND_H

#include <microhttpd.h>

#include "tools/bedrock-sim/sim.h"

/* The answer of a judged request, or what its fault does.  MHD_NO closes. */
enum MHD_Result send_answer(
	struct MHD_Connection *connection, const struct exchange *exchange);
/* A page of the simulator itself. */
enum MHD_Result send_page(
	struct MHD_Connection *connection, struct exchange *exchange);

/* The socket of a connection; -1 when the library does not say. */
int send_socket(struct MHD_Connection *connection);

#endif
