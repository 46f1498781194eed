/* Sorting by a number that is a hash. */
#pragma once

#include <stdint.h>

struct ranked {
    uint32_t key;
    uint32_t index;
};

/* Sorts by `key`; equals stay in order. `space` has room for as many. The result is in `space`. A radix sort in three
   passes, since comparing takes several times as long for a hundred thousand. */
static inline void sort(struct ranked *items, struct ranked *space, uint32_t count)
{
    static uint32_t begins[1 << 11];
    for (int shift = 0; shift < 33; shift += 11) {
        for (uint32_t digit = 0; digit < 1 << 11; digit++)
            begins[digit] = 0;
        for (uint32_t i = 0; i < count; i++)
            begins[items[i].key >> shift & 2047]++;
        uint32_t begin = 0;
        for (uint32_t digit = 0; digit < 1 << 11; digit++) {
            uint32_t size = begins[digit];
            begins[digit] = begin;
            begin += size;
        }
        for (uint32_t i = 0; i < count; i++)
            space[begins[items[i].key >> shift & 2047]++] = items[i];
        struct ranked *sorted = space;
        space = items;
        items = sorted;
    }
}
