/* The contract of policy.wit for schedulers in C, as functions of a core module, and what several of them need.
   Include it once; define `pick` and, for a scheduler with state, `configure`. */
#pragma once

#include <stdint.h>

/* The answer of a `pick` that has no opinion: the host's round robin picks. */
#define NO_OPINION UINT32_MAX

/* What `flow_hash` can hash. */
enum {
    SOURCE_ADDRESS = 1,
    SOURCE_PORT = 2,
    DESTINATION_ADDRESS = 4,
    DESTINATION_PORT = 8,
    PROTOCOL = 16,
};

#define HOST(name) __attribute__((import_module("snowglobe:policy/host@0.1.0"), import_name(name)))

HOST("zone") uint32_t zone(uint32_t i);
HOST("node") uint32_t node(uint32_t i);
HOST("weight") uint32_t weight(uint32_t i);
HOST("active") uint32_t active(uint32_t i);
HOST("failures") uint32_t failures(uint32_t i);
HOST("latency") uint32_t latency(uint32_t i);
HOST("identity") uint64_t identity(uint32_t i);
HOST("flow-hash") uint64_t flow_hash(uint32_t fields);
HOST("now") uint64_t now(void);
HOST("random") uint64_t random(void);
HOST("config-length") uint32_t config_length(void);
HOST("config-byte") uint32_t config_byte(uint32_t i);
HOST("log") void log_value(uint32_t code, uint64_t value);

__attribute__((export_name("configure"))) void configure(uint64_t generation, uint32_t count);
__attribute__((export_name("pick"))) uint32_t pick(uint64_t source_hash, uint32_t client_zone,
                                                   uint32_t client_node);

/* A random number from 0 to `count` - 1. */
static inline uint32_t random_below(uint32_t count)
{
    return (uint32_t)(((random() >> 32) * count) >> 32);
}

/* Whether to pass over an endpoint this time because the last connects to it failed. Each failure in a row halves
   its chances, down to one in 64: the host sees only by trying that the endpoint is back. */
static inline int is_passed_over(uint32_t i)
{
    uint32_t failed = failures(i);
    uint32_t chance = failed < 6 ? failed : 6;
    return failed > 0 && random() >> (64 - chance) != 0;
}

/* The finalizer of SplitMix64: every bit of the result depends on every bit of `value`. */
static inline uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

/* Where the memory begins that belongs to nobody: behind the static variables. A multiple of 16. */
extern unsigned char __heap_base[];

/* Makes the memory reach up to `end`. 0 if that is more than a module may have. */
static inline int reserve(const void *end)
{
    uint32_t pages = ((uintptr_t)end >> 16) + 1, present = __builtin_wasm_memory_size(0);
    return pages <= present || __builtin_wasm_memory_grow(0, pages - present) != SIZE_MAX;
}
