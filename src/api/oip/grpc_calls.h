/*
 * The methods that are no inference, for the table in grpc.c.
 */
#ifndef MD_API_OIP_GRPC_CALLS_H
#define MD_API_OIP_GRPC_CALLS_H

#include "api/oip/grpc_unary.h"

/* grpc_metadata.c */
md_oip_unary_function md_oip_grpc_server_live;
md_oip_unary_function md_oip_grpc_server_ready;
md_oip_unary_function md_oip_grpc_model_ready;
md_oip_unary_function md_oip_grpc_server_metadata;
md_oip_unary_function md_oip_grpc_model_metadata;
md_oip_unary_function md_oip_grpc_model_config;

/* grpc_models.c */
md_oip_unary_function md_oip_grpc_statistics;
md_oip_unary_function md_oip_grpc_index;

/* grpc_logging.c */
md_oip_unary_function md_oip_grpc_log_settings;

/* grpc_trace.c */
md_oip_unary_function md_oip_grpc_trace_setting;

/* grpc_shared_memory.c */
md_oip_unary_function md_oip_grpc_system_status;
md_oip_unary_function md_oip_grpc_system_register;
md_oip_unary_function md_oip_grpc_system_unregister;
md_oip_unary_function md_oip_grpc_cuda_status;
md_oip_unary_function md_oip_grpc_cuda_register;
md_oip_unary_function md_oip_grpc_cuda_unregister;

/* grpc_health.c */
md_oip_unary_function md_oip_grpc_health_check;
md_oip_unary_function md_oip_grpc_health_list;
extern const struct md_http_handler md_oip_grpc_health_watch_handler;

/* grpc_reflection.c */
extern const struct md_http_handler md_oip_grpc_reflection_handler;

#endif
