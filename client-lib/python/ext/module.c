/*
 * The module rgov._rgov: its types, its constants, and what it takes from the
 * package's Python half.  Multi-phase: each interpreter has its own state.
 */
#include "client-lib/python/ext/ext.h"

#include <stddef.h>

PyMODINIT_FUNC PyInit__rgov(void);

struct ext_state *ext_state_of(PyObject *object)
{
	/* Our types cannot be subclassed, so the type is the one we made. */
	return PyType_GetModuleState(Py_TYPE(object));
}

/* Where each field of the state comes from in the package. */
static const struct {
	const char *module, *name;
	size_t at;
} imports[] = {
	{"rgov.reply", "Reply", offsetof(struct ext_state, reply_class)},
	{"rgov.reply", "Usage", offsetof(struct ext_state, usage_class)},
	{"rgov.status", "_of_task", offsetof(struct ext_state, status_of_task)},
	{"rgov.errors", "_from_task_answer",
		offsetof(struct ext_state, error_of_task)},
	{"rgov.errors", "_from_reply",
		offsetof(struct ext_state, error_of_reply)},
	{"rgov.errors", "_from_errno",
		offsetof(struct ext_state, error_of_errno)},
	{"rgov.errors", "Error", offsetof(struct ext_state, base_error)},
	{"rgov.errors", "ConfigError",
		offsetof(struct ext_state, config_error)},
	{"rgov.errors", "ForkError", offsetof(struct ext_state, fork_error)},
	{"rgov.errors", "PermitLost", offsetof(struct ext_state, permit_lost)},
};

enum { IMPORTS = sizeof(imports) / sizeof(imports[0]) };

static PyObject **field_of(struct ext_state *state, size_t i)
{
	return (PyObject **)(void *)((char *)state + imports[i].at);
}

static int import_names(struct ext_state *state)
{
	for (size_t i = 0; i < IMPORTS; i++) {
		PyObject *module = PyImport_ImportModule(imports[i].module);

		if (module == NULL)
			return -1;
		*field_of(state, i) =
			PyObject_GetAttrString(module, imports[i].name);
		Py_DECREF(module);
		if (*field_of(state, i) == NULL)
			return -1;
	}
	return 0;
}

static int add_type(PyObject *module, PyType_Spec *spec, PyObject **ret_type)
{
	*ret_type = PyType_FromModuleAndSpec(module, spec, NULL);
	if (*ret_type == NULL)
		return -1;
	return PyModule_AddType(module, (PyTypeObject *)*ret_type);
}

static int add_constants(PyObject *module)
{
	static const struct {
		const char *name;
		long value;
	} constants[] = {
		{"INVOKE_MODEL", RGOV_INVOKE_MODEL},
		{"CONVERSE", RGOV_CONVERSE},
		{"PERMIT", ASK_PERMIT},
		{"TASK", ASK_TASK},
		{"TASK_SHOW", ASK_QUESTION | RGOV_TASK_SHOW},
		{"TASK_WAIT", ASK_QUESTION | RGOV_TASK_WAIT},
		{"TASK_FETCH", ASK_QUESTION | RGOV_TASK_FETCH},
		{"TASK_CANCEL", ASK_QUESTION | RGOV_TASK_CANCEL},
		{"INTERACTIVE", RGOV_INTERACTIVE},
		{"NORMAL", RGOV_NORMAL},
		{"BATCH", RGOV_BATCH},
		{"RING", RGOV_RING},
		{"NOT_IDEMPOTENT", RGOV_NOT_IDEMPOTENT},
		{"SETTLE_OK", RGOV_SETTLE_OK},
		{"SETTLE_THROTTLED", RGOV_SETTLE_THROTTLED},
		{"SETTLE_FAILED", RGOV_SETTLE_FAILED},
		{"SETTLE_UNUSED", RGOV_SETTLE_UNUSED},
		{"DISPATCHED", DISPATCHED},
		{"AWAY", DISPATCH_AWAY},
		{"LOST", DISPATCH_LOST},
	};

	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
		if (PyModule_AddIntConstant(
			    module, constants[i].name, constants[i].value) < 0)
			return -1;
	}
	return PyModule_AddStringConstant(module, "VERSION", rgov_version());
}

static int module_exec(PyObject *module)
{
	struct ext_state *state = PyModule_GetState(module);

	if (import_names(state) < 0 ||
		add_type(module, &handle_spec, &state->handle_type) < 0 ||
		add_type(module, &ticket_spec, &state->ticket_type) < 0)
		return -1;
	return add_constants(module);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
	struct ext_state *state = PyModule_GetState(module);

	Py_VISIT(state->handle_type);
	Py_VISIT(state->ticket_type);
	for (size_t i = 0; i < IMPORTS; i++)
		Py_VISIT(*field_of(state, i));
	return 0;
}

static int module_clear(PyObject *module)
{
	struct ext_state *state = PyModule_GetState(module);

	Py_CLEAR(state->handle_type);
	Py_CLEAR(state->ticket_type);
	for (size_t i = 0; i < IMPORTS; i++)
		Py_CLEAR(*field_of(state, i));
	return 0;
}

static void module_free(void *module)
{
	(void)module_clear(module);
}

PyDoc_STRVAR(module_doc,
	"The part of rgov that sleeps: handles and tickets of librgov.  Use "
	"the "
	"package rgov instead; this module's interface may change.");

static PyModuleDef_Slot module_slots[] = {
	{Py_mod_exec, (void *)module_exec},
	{0, NULL},
};

static struct PyModuleDef module_def = {
	PyModuleDef_HEAD_INIT,
	.m_name = "rgov._rgov",
	.m_doc = module_doc,
	.m_size = sizeof(struct ext_state),
	.m_slots = module_slots,
	.m_traverse = module_traverse,
	.m_clear = module_clear,
	.m_free = module_free,
};

PyMODINIT_FUNC PyInit__rgov(void)
{
	return PyModuleDef_Init(&module_def);
}
