"""GPUs as XLA's compiler describes them: ``GpuTargetConfigProto`` in its text form.

Source: openxla/xla, xla/stream_executor/device_description.proto; the figures are those
of NVIDIA's H100 and A100 data sheets and architecture white papers, SXM, 80 GB.
"""

# what all of them have
_SHARED = """
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 }
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152
"""
H100 = f"""{_SHARED}
  cuda_compute_capability {{ major: 9 minor: 0 }}
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 memory_bandwidth: 3350000000000
  l2_cache_size: 52428800
  shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
}}
"""
A100 = f"""{_SHARED}
  cuda_compute_capability {{ major: 8 minor: 0 }}
  core_count: 108 fpus_per_core: 64 clock_rate_ghz: 1.41
  device_memory_size: 85100068864 memory_bandwidth: 2039000000000
  l2_cache_size: 41943040
  shared_memory_per_core: 167936 shared_memory_per_block_optin: 166912
}}
"""
