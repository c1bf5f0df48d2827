/*
 * The schema of a model's configuration, as data: the field's ModelConfig, every message and field.
 *
 * The notes say what this version does with a field, for --check-config and the reference page.
 */
#include "config/schema.h"

/* A field: its name, its kind, and what else is to say. */
#define F(field, ...)                      \
    {                                      \
        .name = field, .kind = __VA_ARGS__ \
    }
#define STRING         MD_FIELD_STRING
#define BOOL           MD_FIELD_BOOL
#define DOUBLE         MD_FIELD_DOUBLE
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

MESSAGE(reshape, "ModelTensorReshape", F("shape", INT64, REPEATED));
MESSAGE(input, "ModelInput", F("name", STRING), F("data_type", ENUM(data_types)),
        F("format", ENUM(formats),
          NO_EFFECT("it describes the layout; tensors are passed as they come")),
        F("dims", INT64, REPEATED),
        F("reshape", OF(reshape), REFUSED("give the dims that the model has")),
        F("is_shape_tensor", BOOL, REFUSED("shape tensors belong to TensorRT plans")),
        F("allow_ragged_batch", BOOL,
          REFUSED("ragged batches are not implemented yet; pad the input")),
        F("optional", BOOL), F("is_non_linear_format_io", BOOL, REFUSED("tensors are row-major")));
MESSAGE(output, "ModelOutput", F("name", STRING), F("data_type", ENUM(data_types)),
        F("dims", INT64, REPEATED), F("label_filename", STRING),
        F("reshape", OF(reshape), REFUSED("give the dims that the model has")),
        F("is_shape_tensor", BOOL, REFUSED("shape tensors belong to TensorRT plans")),
        F("is_non_linear_format_io", BOOL, REFUSED("tensors are row-major")));

MESSAGE(batch_input, "BatchInput", F("kind", ENUM(batch_input_kinds)),
        F("target_name", STRING, REPEATED), F("data_type", ENUM(data_types)),
        F("source_input", STRING, REPEATED));
MESSAGE(batch_output, "BatchOutput", F("target_name", STRING, REPEATED),
        F("kind", ENUM(batch_output_kinds)), F("source_input", STRING, REPEATED));

MESSAGE(rate_resource, "Resource", F("name", STRING), F("global", BOOL), F("count", UINT32));
MESSAGE(rate_limiter, "ModelRateLimiter", F("resources", OF(rate_resource), REPEATED),
        F("priority", UINT32));
MESSAGE(secondary_device, "SecondaryDevice", F("kind", ENUM(secondary_kinds)),
        F("device_id", INT64));
MESSAGE(instance_group, "ModelInstanceGroup", F("name", STRING), F("kind", ENUM(kinds)),
        F("count", INT32),
        F("rate_limiter", OF(rate_limiter),
          NO_EFFECT("instances run whenever an executor is free")),
        F("gpus", INT32, REPEATED),
        F("secondary_devices", OF(secondary_device), REPEATED, REFUSED("there is no such device")),
        F("profile", STRING, REPEATED, NO_EFFECT("profiles belong to TensorRT plans")),
        F("passive", BOOL, REFUSED("a group that the scheduler does not use cannot be asked for")),
        F("host_policy", STRING, NO_EFFECT("threads are placed by the CPU plan")));

MESSAGE(latest, "Latest", F("num_versions", UINT32));
MESSAGE(specific, "Specific", F("versions", INT64, REPEATED));
MESSAGE(version_policy, "ModelVersionPolicy", F("latest", OF(latest), ONEOF(1)),
        F("all", OF(empty_message), ONEOF(1)), F("specific", OF(specific), ONEOF(1)));

MESSAGE(string_entry, "map entry", F("key", STRING), F("value", STRING));
MESSAGE(parameter, "ModelParameter", F("string_value", STRING));
MESSAGE(parameter_entry, "map entry", F("key", STRING), F("value", OF(parameter)));

MESSAGE(graph, "Graph", F("level", INT32));
MESSAGE(shape_value, "Shape", F("dim", INT64, REPEATED));
MESSAGE(shape_entry, "map entry", F("key", STRING), F("value", OF(shape_value)));
MESSAGE(graph_lower_bound, "LowerBound", F("batch_size", INT32), F("input", MAP(shape_entry)));
MESSAGE(graph_spec, "GraphSpec", F("batch_size", INT32), F("input", MAP(shape_entry)),
        F("graph_lower_bound", OF(graph_lower_bound)));
MESSAGE(cuda, "Cuda", F("graphs", BOOL), F("busy_wait_events", BOOL),
        F("graph_spec", OF(graph_spec), REPEATED), F("output_copy_stream", BOOL));
MESSAGE(accelerator, "Accelerator", F("name", STRING), F("parameters", MAP(string_entry)));
MESSAGE(accelerators, "ExecutionAccelerators",
        F("gpu_execution_accelerator", OF(accelerator), REPEATED),
        F("cpu_execution_accelerator", OF(accelerator), REPEATED));
MESSAGE(pinned, "PinnedMemoryBuffer", F("enable", BOOL));
MESSAGE(optimization, "ModelOptimizationPolicy", F("graph", OF(graph)),
        F("priority", ENUM(priorities), NO_EFFECT("instances share the executors evenly")),
        F("cuda", OF(cuda), NO_EFFECT("it concerns GPUs")),
        F("execution_accelerators", OF(accelerators)),
        F("input_pinned_memory", OF(pinned), NO_EFFECT("it concerns GPUs")),
        F("output_pinned_memory", OF(pinned), NO_EFFECT("it concerns GPUs")),
        F("gather_kernel_buffer_threshold", UINT32, NO_EFFECT("it concerns GPUs")),
        F("eager_batching", BOOL, NO_EFFECT("batches are made when an instance is free")));

MESSAGE(queue_policy, "ModelQueuePolicy", F("timeout_action", ENUM(timeout_actions)),
        F("default_timeout_microseconds", UINT64), F("allow_timeout_override", BOOL),
        F("max_queue_size", UINT32));
MESSAGE(priority_entry, "map entry", F("key", UINT64), F("value", OF(queue_policy)));
MESSAGE(dynamic_batching, "ModelDynamicBatching", F("preferred_batch_size", INT32, REPEATED),
        F("max_queue_delay_microseconds", UINT64), F("preserve_ordering", BOOL),
        F("priority_levels", UINT64), F("default_priority_level", UINT64),
        F("default_queue_policy", OF(queue_policy)),
        F("priority_queue_policy", MAP(priority_entry)));

MESSAGE(control, "Control", F("kind", ENUM(control_kinds)), F("int32_false_true", INT32, REPEATED),
        F("fp32_false_true", DOUBLE, REPEATED), F("bool_false_true", BOOL, REPEATED),
        F("data_type", ENUM(data_types)));
MESSAGE(control_input, "ControlInput", F("name", STRING), F("control", OF(control), REPEATED));
MESSAGE(initial_state, "InitialState", F("data_type", ENUM(data_types)), F("dims", INT64, REPEATED),
        F("zero_data", BOOL, ONEOF(1)), F("data_file", STRING, ONEOF(1)), F("name", STRING));
MESSAGE(state, "State", F("input_name", STRING), F("output_name", STRING),
        F("data_type", ENUM(data_types)), F("dims", INT64, REPEATED),
        F("initial_state", OF(initial_state), REPEATED),
        F("use_same_buffer_for_input_output", BOOL), F("use_growable_memory", BOOL));
MESSAGE(strategy_direct, "StrategyDirect", F("max_queue_delay_microseconds", UINT64),
        F("minimum_slot_utilization", DOUBLE));
MESSAGE(strategy_oldest, "StrategyOldest", F("max_candidate_sequences", INT32),
        F("preferred_batch_size", INT32, REPEATED), F("max_queue_delay_microseconds", UINT64),
        F("preserve_ordering", BOOL));
MESSAGE(sequence_batching, "ModelSequenceBatching", F("direct", OF(strategy_direct), ONEOF(1)),
        F("oldest", OF(strategy_oldest), ONEOF(1)), F("max_sequence_idle_microseconds", UINT64),
        F("control_input", OF(control_input), REPEATED), F("state", OF(state), REPEATED),
        F("iterative_sequence", BOOL));

MESSAGE(ensemble_step, "Step", F("model_name", STRING), F("model_version", INT64),
        F("input_map", MAP(string_entry)), F("output_map", MAP(string_entry)),
        F("model_namespace", STRING));
MESSAGE(ensembling, "ModelEnsembling", F("step", OF(ensemble_step), REPEATED),
        F("max_inflight_requests", UINT32));

MESSAGE(warmup_input, "Input", F("data_type", ENUM(data_types)), F("dims", INT64, REPEATED),
        F("zero_data", BOOL, ONEOF(1)), F("random_data", BOOL, ONEOF(1)),
        F("input_data_file", STRING, ONEOF(1)));
MESSAGE(warmup_entry, "map entry", F("key", STRING), F("value", OF(warmup_input)));
MESSAGE(warmup, "ModelWarmup", F("name", STRING), F("batch_size", UINT32),
        F("inputs", MAP(warmup_entry)), F("count", UINT32));

MESSAGE(operations, "ModelOperations", F("op_library_filename", STRING, REPEATED));
MESSAGE(transaction_policy, "ModelTransactionPolicy", F("decoupled", BOOL));
MESSAGE(agent, "Agent", F("name", STRING), F("parameters", MAP(string_entry)));
MESSAGE(agents, "ModelRepositoryAgents", F("agents", OF(agent), REPEATED));
MESSAGE(response_cache, "ModelResponseCache", F("enable", BOOL));
MESSAGE(metric_identifier, "MetricIdentifier", F("family", STRING));
MESSAGE(histogram_options, "HistogramOptions", F("buckets", DOUBLE, REPEATED));
MESSAGE(metric_control, "MetricControl", F("metric_identifier", OF(metric_identifier)),
        F("histogram_options", OF(histogram_options), ONEOF(1)));
MESSAGE(metrics, "ModelMetrics", F("metric_control", OF(metric_control), REPEATED));

static const struct md_field_desc model_config_fields[] = {
    F("name", STRING),
    F("platform", STRING),
    F("backend", STRING),
    F("runtime", STRING),
    F("version_policy", OF(version_policy)),
    F("max_batch_size", INT32),
    F("input", OF(input), REPEATED),
    F("output", OF(output), REPEATED),
    F("batch_input", OF(batch_input), REPEATED,
      REFUSED("the backend would miss these tensors; ragged batches are not implemented yet")),
    F("batch_output", OF(batch_output), REPEATED,
      REFUSED("ragged batches are not implemented yet")),
    F("optimization", OF(optimization)),
    F("dynamic_batching", OF(dynamic_batching), ONEOF(1),
      NO_EFFECT("requests run one by one for now; answers are the same")),
    F("sequence_batching", OF(sequence_batching), ONEOF(1),
      REFUSED("sequences are not implemented yet; send the state as tensors")),
    F("ensemble_scheduling", OF(ensembling), ONEOF(1),
      REFUSED("ensembles are not implemented yet; call the models one by one")),
    F("instance_group", OF(instance_group), REPEATED),
    F("default_model_filename", STRING),
    F("cc_model_filenames", MAP(string_entry), NO_EFFECT("it concerns GPUs")),
    F("metric_tags", MAP(string_entry)),
    F("parameters", MAP(parameter_entry)),
    F("model_warmup", OF(warmup), REPEATED,
      NO_EFFECT("the first request warms the model up for now")),
    F("model_operations", OF(operations)),
    F("model_transaction_policy", OF(transaction_policy)),
    F("model_repository_agents", OF(agents), REFUSED("repository agents are not implemented")),
    F("response_cache", OF(response_cache), NO_EFFECT("responses are computed each time")),
    F("model_metrics", OF(metrics), NO_EFFECT("histograms have fixed bounds")),
};

const struct md_message_desc md_model_config_desc = {"ModelConfig", model_config_fields,
                                                     MD_COUNT_OF(model_config_fields)};
