/* What the fused splits on a CPU share: rows, groups, masses, and functions that a compiler turns into vectors.

   Every function works on a range of rows, so that threads can share a batch; no row knows of another one, so results
   do not depend on the number of threads. Logits become float in a scratch buffer of two rows that stays in the cache,
   statistics are double. Loops over classes are written so that a compiler can use vectors: reductions say so, and the
   exponential is a polynomial. NaN and infinity must come through, so never compile this with -ffast-math.

   "Listed" are the classes of every group but the last, which is the rest. */

#pragma once

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define BLOCK 1024 /* classes summed in float before the sum is added to a double */
#define ABSENT -1e30f /* distance to the largest logit of a class that does not count */

enum { FLOAT32, BFLOAT16, FLOAT16 };
enum { DONE, NO_MEMORY, NO_SUCH_CLASS }; /* what every function returns */

/* Members of one listed group; strides count elements. */
typedef struct {
    const int64_t *index;
    const uint8_t *valid; /* NULL: all entries count */
    int64_t width, index_row, valid_row;
} Listed;

/* What every function reads; the listed groups follow directly behind. Classes of a row lie side by side. */
typedef struct {
    const void *student, *teacher;
    int64_t student_row, teacher_row, classes, groups, dtype; /* groups: the rest included */
    double temperature;
} Rows;

/* What read_rows writes: per row between [1], the others [groups] each; saved [groups, SAVED] is for write_rows. */
typedef struct {
    float *between, *within, *log_t, *log_s, *saved;
} Read;

/* The gradient, and what arrives at the outputs of read_rows (NULL: nothing) with its strides. */
typedef struct {
    void *out;
    int64_t out_row;
    const float *saved;
    const float *between;
    int64_t between_row, between_group; /* the latter is not used */
    const float *within;
    int64_t within_row, within_group;
    const float *log_s;
    int64_t log_s_row, log_s_group;
} Write;

/* The gradient (NULL: none), one value per row (NULL: only their mean), their mean, and the share of one row in it; the
   weights of between and of every within follow directly behind. */
typedef struct {
    void *out;
    int64_t out_row;
    double *values;
    float *mean;
    double share;
} Mean;

static const Listed *listed(const Rows *a, int64_t group) { return (const Listed *)(a + 1) + group; }

/* Of one group in one row. The sums are of exp((logit - best) / T), gap of differences (t - best_t) - (s - best_s),
   weighed by the exponentials. After close_masses: logarithms of the sums (ln) and of the masses (log). */
typedef struct {
    int64_t start, count;
    double best_t, best_s, sum_t, sum_s, gap;
    double ln_t, ln_s, log_t, log_s, mass_t, mass_s, within;
    double tilt, slope, offset, mean; /* directed.c */
} Group;

typedef struct {
    float *t, *s;  /* one row: the classes in order */
    float *lt, *ls; /* the listed classes, group after group */
    int64_t *where; /* and which classes these are */
    Group *group;
    void *memory;
} Scratch;

static int make_scratch(const Rows *a, Scratch *x) {
    int64_t most = 0, wide = a->classes * 4;
    for (int64_t g = 0; g + 1 < a->groups; g++) most += listed(a, g)->width;
    int64_t small = most * 4;
    char *at = malloc(2 * (wide + small) + (most + 1) * 8 + a->groups * sizeof(Group) + 64);
    x->memory = at;
    if (!at) return NO_MEMORY;
    x->group = (Group *)at;
    x->where = (int64_t *)(at += a->groups * sizeof(Group));
    x->t = (float *)(at += (most + 1) * 8);
    x->s = (float *)(at += wide);
    x->lt = (float *)(at += wide);
    x->ls = (float *)(at + small);
    return DONE;
}

/* 2 ** y for y <= 0, at least 2 ** -125: a polynomial on [-1/2, 1/2] (error 2e-9), times a power of two that is
   built from its bits. NaN stays NaN. */
static inline float power2(float y) {
    y = y < -125.0f ? -125.0f : y;
    float shifted = y + 12582912.0f; /* 1.5 * 2^23: the integer nearest to y is now in the lowest bits */
    float f = y - (shifted - 12582912.0f);
    float p = 1.53533606e-4f;
    p = p * f + 1.33988745e-3f;
    p = p * f + 9.61843736e-3f;
    p = p * f + 5.55033247e-2f;
    p = p * f + 2.40226479e-1f;
    p = p * f + 6.93147203e-1f;
    p = p * f + 1.0f;
    union { float f; int32_t i; } bits = {.f = shifted}, scale;
    scale.i = (bits.i - 0x4b400000 + 127) << 23;
    return p * scale.f;
}

/* In lanes: no compiler may turn a comparison into a maximum of vectors as long as there may be a NaN. */
static float largest(const float *x, int64_t n) {
    float best[LANES];
    int64_t i = 0;
    for (int j = 0; j < LANES; j++) best[j] = -FLT_MAX;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) best[j] = x[i + j] > best[j] ? x[i + j] : best[j];
    for (; i < n; i++) best[0] = x[i] > best[0] ? x[i] : best[0];
    for (int half = LANES / 2; half; half /= 2)
        for (int j = 0; j < half; j++) best[j] = best[j + half] > best[j] ? best[j + half] : best[j];
    return best[0];
}

static void widen(const void *row, int64_t dtype, int64_t n, float *restrict to) {
    if (dtype == FLOAT32) {
        memcpy(to, row, 4 * n);
    } else if (dtype == BFLOAT16) {
        const uint16_t *from = row;
        for (int64_t i = 0; i < n; i++) {
            union { uint32_t i; float f; } bits = {.i = (uint32_t)from[i] << 16};
            to[i] = bits.f;
        }
    } else {
#ifdef __FLT16_MAX__
        const _Float16 *from = row;
        for (int64_t i = 0; i < n; i++) to[i] = (float)from[i];
#endif
    }
}

static void narrow(const float *restrict from, int64_t dtype, int64_t n, void *row) {
    if (dtype == FLOAT32) {
        if (from != row) memcpy(row, from, 4 * n);
    } else if (dtype == BFLOAT16) {
        uint16_t *to = row;
        for (int64_t i = 0; i < n; i++) {
            union { float f; uint32_t i; } bits = {.f = from[i]};
            /* to the nearest, ties to even; a NaN stays one */
            to[i] = from[i] == from[i] ? (bits.i + 0x7fff + ((bits.i >> 16) & 1)) >> 16 : 0x7fc0;
        }
    } else {
#ifdef __FLT16_MAX__
        _Float16 *to = row;
        for (int64_t i = 0; i < n; i++) to[i] = (_Float16)from[i];
#endif
    }
}

static const void *row_of(const void *logits, int64_t stride, int64_t row, int64_t dtype) {
    return (const char *)logits + row * stride * (dtype == FLOAT32 ? 4 : 2);
}

/* Both rows and the listed classes into the scratch buffers; the number of listed classes, -1 if one does not exist. */
static int64_t load(const Rows *a, int64_t row, Scratch *x) {
    widen(row_of(a->teacher, a->teacher_row, row, a->dtype), a->dtype, a->classes, x->t);
    widen(row_of(a->student, a->student_row, row, a->dtype), a->dtype, a->classes, x->s);
    int64_t m = 0;
    for (int64_t g = 0; g + 1 < a->groups; g++) {
        const Listed *l = listed(a, g);
        const int64_t *index = l->index + row * l->index_row;
        const uint8_t *valid = l->valid ? l->valid + row * l->valid_row : NULL;
        x->group[g].start = m;
        for (int64_t j = 0; j < l->width; j++)
            if (!valid || valid[j]) {
                if (index[j] < 0 || index[j] >= a->classes) return -1;
                x->where[m++] = index[j];
            }
        x->group[g].count = m - x->group[g].start;
    }
    for (int64_t j = 0; j < m; j++) {
        x->lt[j] = x->t[x->where[j]];
        x->ls[j] = x->s[x->where[j]];
    }
    return m;
}

/* How the sums of one group are taken; s becomes its exponentials, t its own or what the direction needs. */
typedef void Sum(float *t, float *s, int64_t n, float rate, Group *g);

/* Sums of all groups; the scratch buffers then hold exponentials, without meaning where the rest has listed classes. */
static void sum_row(const Rows *a, Scratch *x, int64_t m, Sum *sum_group) {
    const float rate = (float)(1.4426950408889634 / a->temperature);
    for (int64_t g = 0; g + 1 < a->groups; g++) {
        Group *k = &x->group[g];
        float *t = x->lt + k->start, *s = x->ls + k->start;
        if (k->count == 1) {
            k->best_t = *t, k->best_s = *s, k->sum_t = k->sum_s = 1, k->gap = 0;
            *t = *s = 1;
        } else if (k->count) {
            k->best_t = largest(t, k->count), k->best_s = largest(s, k->count);
            sum_group(t, s, k->count, rate, k);
        }
    }
    Group *rest = &x->group[a->groups - 1];
    rest->count = a->classes - m;
    for (int64_t j = 0; j < m; j++) x->t[x->where[j]] = x->s[x->where[j]] = -FLT_MAX;
    rest->best_t = largest(x->t, a->classes), rest->best_s = largest(x->s, a->classes);
    for (int64_t j = 0; j < m; j++) {
        x->t[x->where[j]] = (float)rest->best_t + ABSENT;
        x->s[x->where[j]] = (float)rest->best_s + ABSENT;
    }
    sum_group(x->t, x->s, a->classes, rate, rest);
}

/* Masses and their logarithms from the sums, relative to the largest logit of the row. */
static void close_masses(const Rows *a, Group *group) {
    double top_t = -INFINITY, top_s = -INFINITY, all_t = 0, all_s = 0;
    for (int64_t g = 0; g < a->groups; g++) {
        if (!group[g].count) continue;
        top_t = group[g].best_t > top_t ? group[g].best_t : top_t;
        top_s = group[g].best_s > top_s ? group[g].best_s : top_s;
    }
    for (int64_t g = 0; g < a->groups; g++) {
        Group *k = &group[g];
        if (!k->count) {
            k->log_t = k->log_s = -INFINITY;
            k->mass_t = k->mass_s = k->within = 0;
            k->best_t = k->best_s = 0, k->sum_t = k->sum_s = 1; /* nobody divides by them */
            continue;
        }
        const double far_t = (k->best_t - top_t) / a->temperature, far_s = (k->best_s - top_s) / a->temperature;
        k->ln_t = k->count == 1 ? 0 : log(k->sum_t), k->ln_s = k->count == 1 ? 0 : log(k->sum_s);
        k->mass_t = k->sum_t * (far_t == 0 ? 1 : exp(far_t));
        k->mass_s = k->sum_s * (far_s == 0 ? 1 : exp(far_s));
        k->log_t = far_t + k->ln_t, k->log_s = far_s + k->ln_s;
        all_t += k->mass_t, all_s += k->mass_s;
    }
    const double log_t = log(all_t), log_s = log(all_s);
    for (int64_t g = 0; g < a->groups; g++) {
        Group *k = &group[g];
        if (!k->count) continue;
        k->mass_t /= all_t, k->mass_s /= all_s;
        k->log_t -= log_t, k->log_s -= log_s;
    }
}

/* Sums of one group; t and s become their exponentials; gap is weighed by the teacher's. */
static void sum_exponentials(float *t, float *s, int64_t n, float rate, Group *g) {
    const float best_t = (float)g->best_t, best_s = (float)g->best_s;
    g->sum_t = g->sum_s = g->gap = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t stop = start + BLOCK < n ? start + BLOCK : n;
        float sum_t = 0, sum_s = 0, gap = 0;
#pragma omp simd reduction(+ : sum_t, sum_s, gap)
        for (int64_t i = start; i < stop; i++) {
            const float x = t[i] - best_t, y = s[i] - best_s;
            const float p = power2(x * rate), q = power2(y * rate);
            sum_t += p;
            sum_s += q;
            gap += x < -1e37f ? 0 : p * (x - y); /* a class that both mask by -inf is not there */
            t[i] = p;
            s[i] = q;
        }
        g->sum_t += sum_t;
        g->sum_s += sum_s;
        g->gap += gap;
    }
}
