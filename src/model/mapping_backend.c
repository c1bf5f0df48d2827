/*
 * What a backend is told of a model: its folder, its configuration, and the parts of that which
 * every backend wants.
 */
#include "model/mapping_internal.h"

static bool make_parameters(struct md_mapping_build *b, struct modeld_model_args *args)
{
    size_t count = md_message_count(b->config, "parameters");
    struct modeld_option *items = md_arena_calloc(b->arena, count, sizeof *items);

    for (size_t i = 0; items && i < count; i++) {
        const struct md_message *entry = md_message_get(b->config, "parameters", i).as.message;
        const struct md_message *value = md_message_child(entry, "value");
        struct md_str text = md_message_get(value, "string_value", 0).as.string;
        items[i].key = md_message_get(entry, "key", 0).as.string.ptr;
        items[i].key = items[i].key ? items[i].key : "";
        items[i].value = text.ptr ? text.ptr : "";
    }
    args->parameters = items;
    args->parameter_count = (uint32_t)count;
    args->parameter_stride = sizeof *items;
    return items || md_error_no_memory(b->err, "a model's parameters");
}

static bool make_op_libraries(struct md_mapping_build *b, struct modeld_model_args *args)
{
    const struct md_message *operations = md_message_child(b->config, "model_operations");
    size_t count = md_message_count(operations, "op_library_filename");
    const char **paths = md_arena_calloc(b->arena, count, sizeof *paths);

    for (size_t i = 0; paths && i < count; i++) {
        struct md_str file = md_message_get(operations, "op_library_filename", i).as.string;
        paths[i] =
            file.ptr[0] == '/'
                ? file.ptr
                : md_arena_printf(b->arena, "%s/%s", b->version->model->files->directory, file.ptr);
    }
    args->op_libraries = paths;
    args->op_library_count = (uint32_t)count;
    return !md_arena_failed(b->arena) || md_error_no_memory(b->err, "a model's libraries");
}

static bool make_accelerators(struct md_mapping_build *b, struct modeld_model_args *args)
{
    static const char *const kinds[] = {"cpu_execution_accelerator", "gpu_execution_accelerator"};
    const struct md_message *accelerators = md_message_child(
        md_message_child(b->config, "optimization") ? md_message_child(b->config, "optimization")
                                                    : NULL,
        "execution_accelerators");
    const char **names = md_arena_calloc(b->arena, 64, sizeof *names);

    for (size_t k = 0; names && k < 2; k++) {
        for (size_t i = 0;
             i < md_message_count(accelerators, kinds[k]) && args->accelerator_count < 64; i++) {
            const struct md_message *one = md_message_get(accelerators, kinds[k], i).as.message;
            struct md_str name = md_message_get(one, "name", 0).as.string;
            names[args->accelerator_count++] = name.ptr ? name.ptr : "";
        }
    }
    args->accelerators = names;
    return names || md_error_no_memory(b->err, "a model's accelerators");
}

/* kind: "input" or "output". NULL when out of memory. */
static const char *join_names(struct md_mapping_build *b, const char *kind)
{
    struct md_bytes text = {0};

    for (size_t i = 0; i < md_message_count(b->config, kind); i++) {
        const struct md_message *tensor = md_message_get(b->config, kind, i).as.message;
        if (i) {
            md_bytes_append_char(&text, ',');
        }
        md_bytes_append_str(&text, md_message_get(tensor, "name", 0).as.string);
    }
    const char *joined = text.failed ? NULL : md_arena_copy(b->arena, md_bytes_view(&text)).ptr;
    md_bytes_deinit(&text);
    return joined;
}

bool md_mapping_create_model(struct md_mapping_build *b)
{
    struct md_mapping *mapping = b->mapping;
    const struct md_message *graph =
        md_message_child(md_message_child(b->config, "optimization"), "graph");
    struct md_bytes json = {0};
    struct modeld_text text = {.text = b->err->text, .capacity = sizeof b->err->text};
    struct md_str filename = md_message_get(b->config, "default_model_filename", 0).as.string;
    struct modeld_model_args args = {
        .struct_size = sizeof args,
        .instance_count = (uint32_t)mapping->instance_count,
        .name = b->version->model->name.ptr,
        .version = b->version->number,
        .directory = b->version->directory,
        .filename = filename.len ? filename.ptr : NULL,
        .max_batch_size = b->max_batch_size,
        .optimization_level = graph ? (int32_t)md_message_get(graph, "level", 0).as.integer : 0,
        .output_names = join_names(b, "output"),
        .input_names = join_names(b, "input"),
    };

    md_message_print_json(b->config, &json);
    md_bytes_append_char(&json, '\0');
    args.config_json = json.data;
    bool ok = (!json.failed && args.output_names) || md_error_no_memory(b->err, "a model");
    ok = ok && make_parameters(b, &args) && make_op_libraries(b, &args) &&
         make_accelerators(b, &args);
    if (ok) {
        b->err->text[0] = '\0';
        int32_t code = mapping->backend->api->model_create(mapping->backend->handle, &args,
                                                           &mapping->model, &text);
        ok = code == MODELD_OK;
        if (!ok) {
            mapping->model = NULL;
            (void)md_backend_failed(code, b->err);
        }
    }
    md_bytes_deinit(&json);
    if (ok) {
        b->info = mapping->backend->api->model_info(mapping->model);
        ok = md_backend_check_model_info(b->info, b->err);
    }
    return ok;
}
