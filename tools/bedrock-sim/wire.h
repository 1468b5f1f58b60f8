/* What is done to a connection's socket, behind the HTTP library's back. */
#ifndef SIM_WIRE_H
#define SIM_WIRE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A socket that listens on 127.0.0.1; *port 0 chooses one and is filled in.
 * -errno.
 */
int wire_listen(int *port);
/* RST, now: the peer's next read fails with ECONNRESET. */
void wire_reset(int fd);
/* Sends a few bytes that are no HTTP (nor TLS), then FIN. */
void wire_garble(int fd);
/* The peer has closed its side. */
bool wire_peer_left(int fd);

#endif
