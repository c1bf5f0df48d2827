/*
 * The schema of a model's configuration, as data: the field's ModelConfig, every message and field.
 *
 * The notes say what this version does with a field, for --check-config and the reference page.
 */
#include "config/schema.h"

#define S(name, kind)                                                       \
    {                                                                       \
        name, MD_FIELD_##kind, false, 64, NULL, NULL, 0, MD_SUPPORTED, NULL \
    }
#define I32(name)                                                        \
    {                                                                    \
        name, MD_FIELD_INT, false, 32, NULL, NULL, 0, MD_SUPPORTED, NULL \
    }
#define R(name, kind)                                                      \
    {                                                                      \
        name, MD_FIELD_##kind, true, 64, NULL, NULL, 0, MD_SUPPORTED, NULL \
    }
#define R32(name)                                                       \
    {                                                                   \
        name, MD_FIELD_INT, true, 32, NULL, NULL, 0, MD_SUPPORTED, NULL \
    }
#define U32(name)                                                         \
    {                                                                     \
        name, MD_FIELD_UINT, false, 32, NULL, NULL, 0, MD_SUPPORTED, NULL \
    }
#define ENUM(name, values)                                                  \
    {                                                                       \
        name, MD_FIELD_ENUM, false, 32, NULL, values, 0, MD_SUPPORTED, NULL \
    }
#define ENUMS(name, values)                                                \
    {                                                                      \
        name, MD_FIELD_ENUM, true, 32, NULL, values, 0, MD_SUPPORTED, NULL \
    }
#define MSG(name, desc)                                                      \
    {                                                                        \
        name, MD_FIELD_MESSAGE, false, 0, &desc, NULL, 0, MD_SUPPORTED, NULL \
    }
#define MSGS(name, desc)                                                    \
    {                                                                       \
        name, MD_FIELD_MESSAGE, true, 0, &desc, NULL, 0, MD_SUPPORTED, NULL \
    }
#define MAP(name, desc)                                                  \
    {                                                                    \
        name, MD_FIELD_MAP, false, 0, &desc, NULL, 0, MD_SUPPORTED, NULL \
    }
#define ONE(name, desc, group)                                                   \
    {                                                                            \
        name, MD_FIELD_MESSAGE, false, 0, &desc, NULL, group, MD_SUPPORTED, NULL \
    }
#define ONE_S(name, kind, group)                                                \
    {                                                                           \
        name, MD_FIELD_##kind, false, 64, NULL, NULL, group, MD_SUPPORTED, NULL \
    }
/* The same with a judgement. */
#define NO_EFFECT(name, kind, note)                                         \
    {                                                                       \
        name, MD_FIELD_##kind, false, 64, NULL, NULL, 0, MD_NO_EFFECT, note \
    }
#define NO_EFFECT_ENUM(name, values, note)                                  \
    {                                                                       \
        name, MD_FIELD_ENUM, false, 32, NULL, values, 0, MD_NO_EFFECT, note \
    }
#define NO_EFFECT_MSG(name, desc, note)                                      \
    {                                                                        \
        name, MD_FIELD_MESSAGE, false, 0, &desc, NULL, 0, MD_NO_EFFECT, note \
    }
#define NO_EFFECT_MSGS(name, desc, note)                                    \
    {                                                                       \
        name, MD_FIELD_MESSAGE, true, 0, &desc, NULL, 0, MD_NO_EFFECT, note \
    }
#define NO_EFFECT_MAP(name, desc, note)                                  \
    {                                                                    \
        name, MD_FIELD_MAP, false, 0, &desc, NULL, 0, MD_NO_EFFECT, note \
    }
#define NO_EFFECT_ONE(name, desc, group, note)                                   \
    {                                                                            \
        name, MD_FIELD_MESSAGE, false, 0, &desc, NULL, group, MD_NO_EFFECT, note \
    }
#define REFUSED(name, kind, note)                                         \
    {                                                                     \
        name, MD_FIELD_##kind, false, 64, NULL, NULL, 0, MD_REFUSED, note \
    }
#define REFUSED_MSG(name, desc, note)                                      \
    {                                                                      \
        name, MD_FIELD_MESSAGE, false, 0, &desc, NULL, 0, MD_REFUSED, note \
    }
#define REFUSED_MSGS(name, desc, note)                                    \
    {                                                                     \
        name, MD_FIELD_MESSAGE, true, 0, &desc, NULL, 0, MD_REFUSED, note \
    }
#define REFUSED_ONE(name, desc, group, note)                                   \
    {                                                                          \
        name, MD_FIELD_MESSAGE, false, 0, &desc, NULL, group, MD_REFUSED, note \
    }

#define MESSAGE(symbol, text, ...)                                       \
    static const struct md_field_desc symbol##_fields[] = {__VA_ARGS__}; \
    static const struct md_message_desc symbol = {text, symbol##_fields, \
                                                  MD_COUNT_OF(symbol##_fields)}

static const struct md_message_desc empty_message = {"empty message", NULL, 0};

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

MESSAGE(reshape, "ModelTensorReshape", R("shape", INT));
MESSAGE(input, "ModelInput", S("name", STRING), ENUM("data_type", data_types),
        NO_EFFECT_ENUM("format", formats,
                       "it describes the layout; tensors are passed as they come"),
        R("dims", INT), REFUSED_MSG("reshape", reshape, "give the dims that the model has"),
        REFUSED("is_shape_tensor", BOOL, "shape tensors belong to TensorRT plans"),
        REFUSED("allow_ragged_batch", BOOL,
                "ragged batches are not implemented yet; pad the input"),
        S("optional", BOOL), REFUSED("is_non_linear_format_io", BOOL, "tensors are row-major"));
MESSAGE(output, "ModelOutput", S("name", STRING), ENUM("data_type", data_types), R("dims", INT),
        S("label_filename", STRING),
        REFUSED_MSG("reshape", reshape, "give the dims that the model has"),
        REFUSED("is_shape_tensor", BOOL, "shape tensors belong to TensorRT plans"),
        REFUSED("is_non_linear_format_io", BOOL, "tensors are row-major"));

MESSAGE(batch_input, "BatchInput", ENUM("kind", batch_input_kinds), R("target_name", STRING),
        ENUM("data_type", data_types), R("source_input", STRING));
MESSAGE(batch_output, "BatchOutput", R("target_name", STRING), ENUM("kind", batch_output_kinds),
        R("source_input", STRING));

MESSAGE(rate_resource, "Resource", S("name", STRING), S("global", BOOL), U32("count"));
MESSAGE(rate_limiter, "ModelRateLimiter", MSGS("resources", rate_resource), U32("priority"));
MESSAGE(secondary_device, "SecondaryDevice", ENUM("kind", secondary_kinds), S("device_id", INT));
MESSAGE(instance_group, "ModelInstanceGroup", S("name", STRING), ENUM("kind", kinds), I32("count"),
        NO_EFFECT_MSG("rate_limiter", rate_limiter, "instances run whenever an executor is free"),
        R32("gpus"), REFUSED_MSGS("secondary_devices", secondary_device, "there is no such device"),
        {"profile", MD_FIELD_STRING, true, 0, NULL, NULL, 0, MD_NO_EFFECT,
         "profiles belong to TensorRT plans"},
        REFUSED("passive", BOOL, "a group that the scheduler does not use cannot be asked for"),
        NO_EFFECT("host_policy", STRING, "threads are placed by the CPU plan"));

MESSAGE(latest, "Latest", U32("num_versions"));
MESSAGE(specific, "Specific", R("versions", INT));
MESSAGE(version_policy, "ModelVersionPolicy", ONE("latest", latest, 1),
        ONE("all", empty_message, 1), ONE("specific", specific, 1));

MESSAGE(string_entry, "map entry", S("key", STRING), S("value", STRING));
MESSAGE(parameter, "ModelParameter", S("string_value", STRING));
MESSAGE(parameter_entry, "map entry", S("key", STRING), MSG("value", parameter));

MESSAGE(graph, "Graph", I32("level"));
MESSAGE(shape_value, "Shape", R("dim", INT));
MESSAGE(shape_entry, "map entry", S("key", STRING), MSG("value", shape_value));
MESSAGE(graph_lower_bound, "LowerBound", I32("batch_size"), MAP("input", shape_entry));
MESSAGE(graph_spec, "GraphSpec", I32("batch_size"), MAP("input", shape_entry),
        MSG("graph_lower_bound", graph_lower_bound));
MESSAGE(cuda, "Cuda", S("graphs", BOOL), S("busy_wait_events", BOOL),
        MSGS("graph_spec", graph_spec), S("output_copy_stream", BOOL));
MESSAGE(accelerator, "Accelerator", S("name", STRING), MAP("parameters", string_entry));
MESSAGE(accelerators, "ExecutionAccelerators", MSGS("gpu_execution_accelerator", accelerator),
        MSGS("cpu_execution_accelerator", accelerator));
MESSAGE(pinned, "PinnedMemoryBuffer", S("enable", BOOL));
MESSAGE(optimization, "ModelOptimizationPolicy", MSG("graph", graph),
        NO_EFFECT_ENUM("priority", priorities, "instances share the executors evenly"),
        NO_EFFECT_MSG("cuda", cuda, "it concerns GPUs"),
        MSG("execution_accelerators", accelerators),
        NO_EFFECT_MSG("input_pinned_memory", pinned, "it concerns GPUs"),
        NO_EFFECT_MSG("output_pinned_memory", pinned, "it concerns GPUs"),
        NO_EFFECT("gather_kernel_buffer_threshold", UINT, "it concerns GPUs"),
        NO_EFFECT("eager_batching", BOOL, "batches are made when an instance is free"));

MESSAGE(queue_policy, "ModelQueuePolicy", ENUM("timeout_action", timeout_actions),
        S("default_timeout_microseconds", UINT), S("allow_timeout_override", BOOL),
        U32("max_queue_size"));
MESSAGE(priority_entry, "map entry", S("key", UINT), MSG("value", queue_policy));
MESSAGE(dynamic_batching, "ModelDynamicBatching", R32("preferred_batch_size"),
        S("max_queue_delay_microseconds", UINT), S("preserve_ordering", BOOL),
        S("priority_levels", UINT), S("default_priority_level", UINT),
        MSG("default_queue_policy", queue_policy), MAP("priority_queue_policy", priority_entry));

MESSAGE(control, "Control", ENUM("kind", control_kinds), R32("int32_false_true"),
        R("fp32_false_true", DOUBLE), R("bool_false_true", BOOL), ENUM("data_type", data_types));
MESSAGE(control_input, "ControlInput", S("name", STRING), MSGS("control", control));
MESSAGE(initial_state, "InitialState", ENUM("data_type", data_types), R("dims", INT),
        ONE_S("zero_data", BOOL, 1), ONE_S("data_file", STRING, 1), S("name", STRING));
MESSAGE(state, "State", S("input_name", STRING), S("output_name", STRING),
        ENUM("data_type", data_types), R("dims", INT), MSGS("initial_state", initial_state),
        S("use_same_buffer_for_input_output", BOOL), S("use_growable_memory", BOOL));
MESSAGE(strategy_direct, "StrategyDirect", S("max_queue_delay_microseconds", UINT),
        S("minimum_slot_utilization", DOUBLE));
MESSAGE(strategy_oldest, "StrategyOldest", I32("max_candidate_sequences"),
        R32("preferred_batch_size"), S("max_queue_delay_microseconds", UINT),
        S("preserve_ordering", BOOL));
MESSAGE(sequence_batching, "ModelSequenceBatching", ONE("direct", strategy_direct, 1),
        ONE("oldest", strategy_oldest, 1), S("max_sequence_idle_microseconds", UINT),
        MSGS("control_input", control_input), MSGS("state", state), S("iterative_sequence", BOOL));

MESSAGE(ensemble_step, "Step", S("model_name", STRING), S("model_version", INT),
        MAP("input_map", string_entry), MAP("output_map", string_entry),
        S("model_namespace", STRING));
MESSAGE(ensembling, "ModelEnsembling", MSGS("step", ensemble_step), U32("max_inflight_requests"));

MESSAGE(warmup_input, "Input", ENUM("data_type", data_types), R("dims", INT),
        ONE_S("zero_data", BOOL, 1), ONE_S("random_data", BOOL, 1),
        ONE_S("input_data_file", STRING, 1));
MESSAGE(warmup_entry, "map entry", S("key", STRING), MSG("value", warmup_input));
MESSAGE(warmup, "ModelWarmup", S("name", STRING), U32("batch_size"), MAP("inputs", warmup_entry),
        U32("count"));

MESSAGE(operations, "ModelOperations", R("op_library_filename", STRING));
MESSAGE(transaction_policy, "ModelTransactionPolicy", S("decoupled", BOOL));
MESSAGE(agent, "Agent", S("name", STRING), MAP("parameters", string_entry));
MESSAGE(agents, "ModelRepositoryAgents", MSGS("agents", agent));
MESSAGE(response_cache, "ModelResponseCache", S("enable", BOOL));
MESSAGE(metric_identifier, "MetricIdentifier", S("family", STRING));
MESSAGE(histogram_options, "HistogramOptions", R("buckets", DOUBLE));
MESSAGE(metric_control, "MetricControl", MSG("metric_identifier", metric_identifier),
        ONE("histogram_options", histogram_options, 1));
MESSAGE(metrics, "ModelMetrics", MSGS("metric_control", metric_control));

static const struct md_field_desc model_config_fields[] = {
    S("name", STRING),
    S("platform", STRING),
    S("backend", STRING),
    S("runtime", STRING),
    MSG("version_policy", version_policy),
    I32("max_batch_size"),
    MSGS("input", input),
    MSGS("output", output),
    REFUSED_MSGS("batch_input", batch_input,
                 "the backend would miss these tensors; ragged batches are not implemented yet"),
    REFUSED_MSGS("batch_output", batch_output, "ragged batches are not implemented yet"),
    MSG("optimization", optimization),
    NO_EFFECT_ONE("dynamic_batching", dynamic_batching, 1,
                  "requests run one by one for now; answers are the same"),
    REFUSED_ONE("sequence_batching", sequence_batching, 1,
                "sequences are not implemented yet; send the state as tensors"),
    REFUSED_ONE("ensemble_scheduling", ensembling, 1,
                "ensembles are not implemented yet; call the models one by one"),
    MSGS("instance_group", instance_group),
    S("default_model_filename", STRING),
    NO_EFFECT_MAP("cc_model_filenames", string_entry, "it concerns GPUs"),
    MAP("metric_tags", string_entry),
    MAP("parameters", parameter_entry),
    NO_EFFECT_MSGS("model_warmup", warmup, "the first request warms the model up for now"),
    MSG("model_operations", operations),
    MSG("model_transaction_policy", transaction_policy),
    REFUSED_MSG("model_repository_agents", agents, "repository agents are not implemented"),
    NO_EFFECT_MSG("response_cache", response_cache, "responses are computed each time"),
    NO_EFFECT_MSG("model_metrics", metrics, "histograms have fixed bounds"),
};

const struct md_message_desc md_model_config_desc = {"ModelConfig", model_config_fields,
                                                     MD_COUNT_OF(model_config_fields)};
