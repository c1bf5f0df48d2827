/*
 * The schema of a model's configuration, as data: the field's ModelConfig, every message and field.
 *
 * The notes say what this version does with a field, for --check-config and the reference page.
 */
#include "config/schema.h"

/* A field: its number and name, its kind, and what else is to say. */
#define F(num, field, ...)                                \
    {                                                     \
        .number = num, .name = field, .kind = __VA_ARGS__ \
    }
#define STRING         MD_FIELD_STRING
#define BOOL           MD_FIELD_BOOL
#define FLOAT          MD_FIELD_DOUBLE, .bits = 32
#define DOUBLE         MD_FIELD_DOUBLE, .bits = 64
#define INT32          MD_FIELD_INT, .bits = 32
#define INT64          MD_FIELD_INT, .bits = 64
#define UINT32         MD_FIELD_UINT, .bits = 32
#define UINT64         MD_FIELD_UINT, .bits = 64
#define ENUM(names)    MD_FIELD_ENUM, .values = (names)
#define OF(desc)       MD_FIELD_MESSAGE, .message = &(desc)
#define MAP(entry)     MD_FIELD_MAP, .message = &(entry)
#define REPEATED       .repeated = true
#define ONEOF(group)   .oneof = (group)
#define NO_EFFECT(why) .support = MD_NO_EFFECT, .note = (why)
#define REFUSED(why)   .support = MD_REFUSED, .note = (why)

#define MESSAGE(symbol, text, ...)                                       \
    static const struct md_field_desc symbol##_fields[] = {__VA_ARGS__}; \
    static const struct md_message_desc symbol = {text, symbol##_fields, \
                                                  MD_COUNT_OF(symbol##_fields)}

static const struct md_message_desc empty_message = {"All", NULL, 0};

static const struct md_enum_value data_types[] = {
    {"TYPE_INVALID", 0}, {"TYPE_BOOL", 1},    {"TYPE_UINT8", 2}, {"TYPE_UINT16", 3},
    {"TYPE_UINT32", 4},  {"TYPE_UINT64", 5},  {"TYPE_INT8", 6},  {"TYPE_INT16", 7},
    {"TYPE_INT32", 8},   {"TYPE_INT64", 9},   {"TYPE_FP16", 10}, {"TYPE_FP32", 11},
    {"TYPE_FP64", 12},   {"TYPE_STRING", 13}, {"TYPE_BF16", 14}, {NULL, 0},
};
static const struct md_enum_value formats[] = {
    {"FORMAT_NONE", 0}, {"FORMAT_NHWC", 1}, {"FORMAT_NCHW", 2}, {NULL, 0}};
static const struct md_enum_value kinds[] = {
    {"KIND_AUTO", 0}, {"KIND_GPU", 1}, {"KIND_CPU", 2}, {"KIND_MODEL", 3}, {NULL, 0}};
static const struct md_enum_value secondary_kinds[] = {{"KIND_NVDLA", 0}, {NULL, 0}};
static const struct md_enum_value priorities[] = {
    {"PRIORITY_DEFAULT", 0}, {"PRIORITY_MAX", 1}, {"PRIORITY_MIN", 2}, {NULL, 0}};
static const struct md_enum_value timeout_actions[] = {{"REJECT", 0}, {"DELAY", 1}, {NULL, 0}};
static const struct md_enum_value batch_input_kinds[] = {
    {"BATCH_ELEMENT_COUNT", 0},
    {"BATCH_ACCUMULATED_ELEMENT_COUNT", 1},
    {"BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", 2},
    {"BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", 3},
    {"BATCH_ITEM_SHAPE", 4},
    {"BATCH_ITEM_SHAPE_FLATTEN", 5},
    {NULL, 0}};
static const struct md_enum_value batch_output_kinds[] = {{"BATCH_SCATTER_WITH_INPUT_SHAPE", 0},
                                                          {NULL, 0}};
static const struct md_enum_value control_kinds[] = {{"CONTROL_SEQUENCE_START", 0},
                                                     {"CONTROL_SEQUENCE_READY", 1},
                                                     {"CONTROL_SEQUENCE_END", 2},
                                                     {"CONTROL_SEQUENCE_CORRID", 3},
                                                     {NULL, 0}};

MESSAGE(reshape, "ModelTensorReshape", F(1, "shape", INT64, REPEATED));
MESSAGE(input, "ModelInput", F(1, "name", STRING), F(2, "data_type", ENUM(data_types)),
        F(3, "format", ENUM(formats),
          NO_EFFECT("it describes the layout; tensors are passed as they come")),
        F(4, "dims", INT64, REPEATED),
        F(5, "reshape", OF(reshape), REFUSED("give the dims that the model has")),
        F(6, "is_shape_tensor", BOOL, REFUSED("shape tensors belong to TensorRT plans")),
        F(7, "allow_ragged_batch", BOOL,
          REFUSED("ragged batches are not implemented yet; pad the input")),
        F(8, "optional", BOOL),
        F(9, "is_non_linear_format_io", BOOL, REFUSED("tensors are row-major")));
MESSAGE(output, "ModelOutput", F(1, "name", STRING), F(2, "data_type", ENUM(data_types)),
        F(3, "dims", INT64, REPEATED), F(4, "label_filename", STRING),
        F(5, "reshape", OF(reshape), REFUSED("give the dims that the model has")),
        F(6, "is_shape_tensor", BOOL, REFUSED("shape tensors belong to TensorRT plans")),
        F(7, "is_non_linear_format_io", BOOL, REFUSED("tensors are row-major")));

MESSAGE(batch_input, "BatchInput", F(1, "kind", ENUM(batch_input_kinds)),
        F(2, "target_name", STRING, REPEATED), F(3, "data_type", ENUM(data_types)),
        F(4, "source_input", STRING, REPEATED));
MESSAGE(batch_output, "BatchOutput", F(1, "target_name", STRING, REPEATED),
        F(2, "kind", ENUM(batch_output_kinds)), F(3, "source_input", STRING, REPEATED));

MESSAGE(rate_resource, "Resource", F(1, "name", STRING), F(2, "global", BOOL),
        F(3, "count", UINT32));
MESSAGE(rate_limiter, "ModelRateLimiter", F(1, "resources", OF(rate_resource), REPEATED),
        F(2, "priority", UINT32));
MESSAGE(secondary_device, "SecondaryDevice", F(1, "kind", ENUM(secondary_kinds)),
        F(2, "device_id", INT64));
MESSAGE(
    instance_group, "ModelInstanceGroup", F(1, "name", STRING), F(4, "kind", ENUM(kinds)),
    F(2, "count", INT32),
    F(6, "rate_limiter", OF(rate_limiter), NO_EFFECT("instances run whenever an executor is free")),
    F(3, "gpus", INT32, REPEATED),
    F(8, "secondary_devices", OF(secondary_device), REPEATED, REFUSED("there is no such device")),
    F(5, "profile", STRING, REPEATED, NO_EFFECT("profiles belong to TensorRT plans")),
    F(7, "passive", BOOL, REFUSED("a group that the scheduler does not use cannot be asked for")),
    F(9, "host_policy", STRING, NO_EFFECT("threads are placed by the CPU plan")));

MESSAGE(latest, "Latest", F(1, "num_versions", UINT32));
MESSAGE(specific, "Specific", F(1, "versions", INT64, REPEATED));
MESSAGE(version_policy, "ModelVersionPolicy", F(1, "latest", OF(latest), ONEOF(1)),
        F(2, "all", OF(empty_message), ONEOF(1)), F(3, "specific", OF(specific), ONEOF(1)));

MESSAGE(string_entry, "map entry", F(1, "key", STRING), F(2, "value", STRING));
MESSAGE(parameter, "ModelParameter", F(1, "string_value", STRING));
MESSAGE(parameter_entry, "map entry", F(1, "key", STRING), F(2, "value", OF(parameter)));

MESSAGE(graph, "Graph", F(1, "level", INT32));
MESSAGE(shape_value, "Shape", F(1, "dim", INT64, REPEATED));
MESSAGE(shape_entry, "map entry", F(1, "key", STRING), F(2, "value", OF(shape_value)));
MESSAGE(graph_lower_bound, "LowerBound", F(1, "batch_size", INT32),
        F(2, "input", MAP(shape_entry)));
MESSAGE(graph_spec, "GraphSpec", F(1, "batch_size", INT32), F(2, "input", MAP(shape_entry)),
        F(3, "graph_lower_bound", OF(graph_lower_bound)));
MESSAGE(cuda, "Cuda", F(1, "graphs", BOOL), F(2, "busy_wait_events", BOOL),
        F(3, "graph_spec", OF(graph_spec), REPEATED), F(4, "output_copy_stream", BOOL));
MESSAGE(accelerator, "Accelerator", F(1, "name", STRING), F(2, "parameters", MAP(string_entry)));
MESSAGE(accelerators, "ExecutionAccelerators",
        F(1, "gpu_execution_accelerator", OF(accelerator), REPEATED),
        F(2, "cpu_execution_accelerator", OF(accelerator), REPEATED));
MESSAGE(pinned, "PinnedMemoryBuffer", F(1, "enable", BOOL));
MESSAGE(optimization, "ModelOptimizationPolicy", F(1, "graph", OF(graph)),
        F(2, "priority", ENUM(priorities)), F(3, "cuda", OF(cuda), NO_EFFECT("it concerns GPUs")),
        F(4, "execution_accelerators", OF(accelerators)),
        F(5, "input_pinned_memory", OF(pinned), NO_EFFECT("it concerns GPUs")),
        F(6, "output_pinned_memory", OF(pinned), NO_EFFECT("it concerns GPUs")),
        F(7, "gather_kernel_buffer_threshold", UINT32, NO_EFFECT("it concerns GPUs")),
        F(8, "eager_batching", BOOL, NO_EFFECT("batches are made when an instance is free")));

MESSAGE(queue_policy, "ModelQueuePolicy", F(1, "timeout_action", ENUM(timeout_actions)),
        F(2, "default_timeout_microseconds", UINT64), F(3, "allow_timeout_override", BOOL),
        F(4, "max_queue_size", UINT32));
MESSAGE(priority_entry, "map entry", F(1, "key", UINT64), F(2, "value", OF(queue_policy)));
MESSAGE(dynamic_batching, "ModelDynamicBatching", F(1, "preferred_batch_size", INT32, REPEATED),
        F(2, "max_queue_delay_microseconds", UINT64), F(3, "preserve_ordering", BOOL),
        F(4, "priority_levels", UINT64), F(5, "default_priority_level", UINT64),
        F(6, "default_queue_policy", OF(queue_policy)),
        F(7, "priority_queue_policy", MAP(priority_entry)));

MESSAGE(control, "Control", F(1, "kind", ENUM(control_kinds)),
        F(2, "int32_false_true", INT32, REPEATED), F(3, "fp32_false_true", FLOAT, REPEATED),
        F(5, "bool_false_true", BOOL, REPEATED), F(4, "data_type", ENUM(data_types)));
MESSAGE(control_input, "ControlInput", F(1, "name", STRING),
        F(2, "control", OF(control), REPEATED));
MESSAGE(initial_state, "InitialState", F(1, "data_type", ENUM(data_types)),
        F(2, "dims", INT64, REPEATED), F(3, "zero_data", BOOL, ONEOF(1)),
        F(4, "data_file", STRING, ONEOF(1)), F(5, "name", STRING));
MESSAGE(state, "State", F(1, "input_name", STRING), F(2, "output_name", STRING),
        F(3, "data_type", ENUM(data_types)), F(4, "dims", INT64, REPEATED),
        F(5, "initial_state", OF(initial_state), REPEATED),
        F(6, "use_same_buffer_for_input_output", BOOL), F(7, "use_growable_memory", BOOL));
MESSAGE(strategy_direct, "StrategyDirect", F(1, "max_queue_delay_microseconds", UINT64),
        F(2, "minimum_slot_utilization", FLOAT));
MESSAGE(strategy_oldest, "StrategyOldest", F(1, "max_candidate_sequences", INT32),
        F(2, "preferred_batch_size", INT32, REPEATED), F(3, "max_queue_delay_microseconds", UINT64),
        F(4, "preserve_ordering", BOOL));
MESSAGE(sequence_batching, "ModelSequenceBatching", F(3, "direct", OF(strategy_direct), ONEOF(1)),
        F(4, "oldest", OF(strategy_oldest), ONEOF(1)),
        F(1, "max_sequence_idle_microseconds", UINT64),
        F(2, "control_input", OF(control_input), REPEATED), F(5, "state", OF(state), REPEATED),
        F(6, "iterative_sequence", BOOL));

MESSAGE(ensemble_step, "Step", F(1, "model_name", STRING), F(2, "model_version", INT64),
        F(3, "input_map", MAP(string_entry)), F(4, "output_map", MAP(string_entry)),
        F(5, "model_namespace", STRING));
MESSAGE(ensembling, "ModelEnsembling", F(1, "step", OF(ensemble_step), REPEATED),
        F(2, "max_inflight_requests", UINT32));

MESSAGE(warmup_input, "Input", F(1, "data_type", ENUM(data_types)), F(2, "dims", INT64, REPEATED),
        F(3, "zero_data", BOOL, ONEOF(1)), F(4, "random_data", BOOL, ONEOF(1)),
        F(5, "input_data_file", STRING, ONEOF(1)));
MESSAGE(warmup_entry, "map entry", F(1, "key", STRING), F(2, "value", OF(warmup_input)));
MESSAGE(warmup, "ModelWarmup", F(1, "name", STRING), F(2, "batch_size", UINT32),
        F(3, "inputs", MAP(warmup_entry)), F(4, "count", UINT32));

MESSAGE(operations, "ModelOperations", F(1, "op_library_filename", STRING, REPEATED));
MESSAGE(transaction_policy, "ModelTransactionPolicy", F(1, "decoupled", BOOL));
MESSAGE(agent, "Agent", F(1, "name", STRING), F(2, "parameters", MAP(string_entry)));
MESSAGE(agents, "ModelRepositoryAgents", F(1, "agents", OF(agent), REPEATED));
MESSAGE(response_cache, "ModelResponseCache", F(1, "enable", BOOL));
MESSAGE(metric_identifier, "MetricIdentifier", F(1, "family", STRING));
MESSAGE(histogram_options, "HistogramOptions", F(1, "buckets", DOUBLE, REPEATED));
MESSAGE(metric_control, "MetricControl", F(1, "metric_identifier", OF(metric_identifier)),
        F(2, "histogram_options", OF(histogram_options), ONEOF(1)));
MESSAGE(metrics, "ModelMetrics", F(1, "metric_control", OF(metric_control), REPEATED));

static const struct md_field_desc model_config_fields[] = {
    F(1, "name", STRING),
    F(2, "platform", STRING),
    F(17, "backend", STRING),
    F(25, "runtime", STRING),
    F(3, "version_policy", OF(version_policy)),
    F(4, "max_batch_size", INT32),
    F(5, "input", OF(input), REPEATED),
    F(6, "output", OF(output), REPEATED),
    F(20, "batch_input", OF(batch_input), REPEATED,
      REFUSED("the backend would miss these tensors; ragged batches are not implemented yet")),
    F(21, "batch_output", OF(batch_output), REPEATED,
      REFUSED("ragged batches are not implemented yet")),
    F(12, "optimization", OF(optimization)),
    F(11, "dynamic_batching", OF(dynamic_batching), ONEOF(1)),
    F(13, "sequence_batching", OF(sequence_batching), ONEOF(1),
      REFUSED("sequences are not implemented yet; send the state as tensors")),
    F(15, "ensemble_scheduling", OF(ensembling), ONEOF(1),
      REFUSED("ensembles are not implemented yet; call the models one by one")),
    F(7, "instance_group", OF(instance_group), REPEATED),
    F(8, "default_model_filename", STRING),
    F(9, "cc_model_filenames", MAP(string_entry), NO_EFFECT("it concerns GPUs")),
    F(10, "metric_tags", MAP(string_entry)),
    F(14, "parameters", MAP(parameter_entry)),
    F(16, "model_warmup", OF(warmup), REPEATED),
    F(18, "model_operations", OF(operations)),
    F(19, "model_transaction_policy", OF(transaction_policy)),
    F(23, "model_repository_agents", OF(agents), REFUSED("repository agents are not implemented")),
    F(24, "response_cache", OF(response_cache), NO_EFFECT("responses are computed each time")),
    F(26, "model_metrics", OF(metrics), NO_EFFECT("histograms have fixed bounds")),
};

const struct md_message_desc md_model_config_desc = {"ModelConfig", model_config_fields,
                                                     MD_COUNT_OF(model_config_fields)};
