/*
 * How the value of one option is read.  Each returns NULL, or what is
 * wrong with it; `text` may be cut into pieces and must outlive the result.
 */
#ifndef SIM_TAKE_H
#define SIM_TAKE_H

typedef const char *take_function(char *text, void *ret_value);

take_function take_port;        /* int */
take_function take_text;        /* const char *, not empty */
take_function take_auth;        /* bool: strict */
take_function take_yes_no;      /* bool */
take_function take_flag;        /* bool, text is NULL */
take_function take_count;       /* uint64_t */
take_function take_seed;        /* uint64_t, any */
take_function take_minute;      /* double */
take_function take_latency;     /* struct latency */
take_function take_latency_by;  /* bool: by body */
take_function take_range;       /* struct range */
take_function take_fault;       /* struct fault_plan */
take_function take_fault_model; /* struct fault_plan */

#endif
