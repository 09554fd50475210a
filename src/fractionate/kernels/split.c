/* The fused split of forward KL on a CPU: the counterpart of the Triton kernels, for a C compiler of any make.
   Formulas are those of fused.py. */

#include "rows.h"

#define SAVED 6

/* Whether a listed group has one class here: nothing is inside it, and what arrives there would only cancel in float. */
static int single(const Rows *a, const Scratch *x, int64_t group) {
    return group + 1 < a->groups && x->group[group].count == 1;
}

/* Masses, KLs inside without T^2; T^2 KL between the groups. */
static double close_row(const Rows *a, Group *group) {
    double between = 0;
    close_masses(a, group);
    for (int64_t g = 0; g < a->groups; g++) {
        Group *k = &group[g];
        if (!k->count) continue;
        k->within = k->count == 1 ? 0 : k->gap / (a->temperature * k->sum_t) - k->ln_t + k->ln_s;
        between += k->mass_t * (k->log_t - k->log_s);
    }
    return a->temperature * a->temperature * between;
}

/* out = s exponentials of the student - t exponentials of the teacher. */
static void combine(const float *p, const float *q, int64_t n, double t, double s, float *out) {
    const float by_t = (float)t, by_s = (float)s;
    for (int64_t i = 0; i < n; i++) out[i] = by_s * q[i] - by_t * p[i];
}

/* As combine, from logits. */
static void combine_logits(const float *t, const float *s, int64_t n, const float *saved, double rate, double by_t,
                           double by_s, float *out) {
    const float best_t = saved[0], best_s = saved[1], r = (float)rate, p = (float)by_t, q = (float)by_s;
    for (int64_t i = 0; i < n; i++) out[i] = q * power2((s[i] - best_s) * r) - p * power2((t[i] - best_t) * r);
}

/* Values of rows first..last-1. */
int read_rows(const Rows *a, const Read *to, int64_t first, int64_t last) {
    Scratch x;
    if (make_scratch(a, &x)) return NO_MEMORY;
    const double square = a->temperature * a->temperature;
    for (int64_t row = first; row < last; row++) {
        const int64_t m = load(a, row, &x);
        if (m < 0) return free(x.memory), NO_SUCH_CLASS;
        sum_row(a, &x, m, sum_exponentials);
        to->between[row] = (float)close_row(a, x.group);
        for (int64_t g = 0; g < a->groups; g++) {
            const Group *k = &x.group[g];
            const int64_t at = row * a->groups + g;
            float *saved = to->saved + SAVED * at;
            to->within[at] = (float)(square * k->within);
            to->log_t[at] = (float)k->log_t, to->log_s[at] = (float)k->log_s;
            saved[0] = (float)k->best_t, saved[1] = (float)k->best_s;
            saved[2] = (float)(1 / k->sum_t), saved[3] = (float)(1 / k->sum_s);
            saved[4] = (float)k->mass_t, saved[5] = (float)k->mass_s;
        }
    }
    free(x.memory);
    return DONE;
}

/* The gradient of rows first..last-1 for what arrives at between, within and log_s. */
int write_rows(const Rows *a, const Write *by, int64_t first, int64_t last) {
    Scratch x;
    if (make_scratch(a, &x)) return NO_MEMORY;
    const double T = a->temperature, rate = 1.4426950408889634 / T;
    for (int64_t row = first; row < last; row++) {
        const int64_t m = load(a, row, &x);
        if (m < 0) return free(x.memory), NO_SUCH_CLASS;
        const double between = by->between ? T * by->between[row * by->between_row] : 0;
        const float *within = by->within ? by->within + row * by->within_row : NULL;
        const float *log_s = by->log_s ? by->log_s + row * by->log_s_row : NULL;
        double all = 0;
        for (int64_t g = 0; log_s && g < a->groups; g++) all += log_s[g * by->log_s_group];
        char *to = (char *)row_of(by->out, by->out_row, row, a->dtype);
        float *out = a->dtype == FLOAT32 ? (float *)to : x.t;
        for (int64_t g = a->groups - 1; g >= 0; g--) { /* the rest first: it writes all classes */
            const float *saved = by->saved + SAVED * (row * a->groups + g);
            const double mass_t = saved[4], mass_s = saved[5];
            const double inside = within && !single(a, &x, g) ? T * within[g * by->within_group] : 0;
            double sum = (mass_s - mass_t) * between;
            if (log_s) sum += (log_s[g * by->log_s_group] - mass_s * all) / T;
            const double by_t = inside * saved[2], by_s = (sum + inside) * saved[3];
            if (g == a->groups - 1) {
                combine_logits(x.t, x.s, a->classes, saved, rate, by_t, by_s, out);
            } else {
                const Group *k = &x.group[g];
                float *at = x.lt + k->start;
                combine_logits(at, x.ls + k->start, k->count, saved, rate, by_t, by_s, at);
            }
        }
        for (int64_t j = 0; j < m; j++) out[x.where[j]] = x.lt[j];
        narrow(out, a->dtype, a->classes, to);
    }
    free(x.memory);
    return DONE;
}

/* Weights . (between, within...) of rows first..last-1, and the gradient of the mean over all rows: one look at both
   logits, as everything that arrives is known. */
int mean_rows(const Rows *a, const Mean *to, int64_t first, int64_t last) {
    Scratch x;
    if (make_scratch(a, &x)) return NO_MEMORY;
    const double T = a->temperature, *weights = (const double *)(to + 1), between = weights[0] * to->share * T;
    double sum = 0;
    for (int64_t row = first; row < last; row++) {
        const int64_t m = load(a, row, &x);
        if (m < 0) return free(x.memory), NO_SUCH_CLASS;
        sum_row(a, &x, m, sum_exponentials);
        double value = weights[0] * close_row(a, x.group);
        char *written = to->out ? (char *)row_of(to->out, to->out_row, row, a->dtype) : NULL;
        float *out = !written || a->dtype == FLOAT32 ? (float *)written : x.t;
        for (int64_t g = a->groups - 1; g >= 0; g--) {
            const Group *k = &x.group[g];
            value += weights[1 + g] * (T * T * k->within);
            if (!out) continue;
            const double inside = single(a, &x, g) ? 0 : weights[1 + g] * to->share * T;
            const double by_t = inside / k->sum_t, by_s = ((k->mass_s - k->mass_t) * between + inside) / k->sum_s;
            if (g == a->groups - 1) {
                combine(x.t, x.s, a->classes, by_t, by_s, out);
            } else {
                float *at = x.lt + k->start;
                combine(at, x.ls + k->start, k->count, by_t, by_s, at);
            }
        }
        for (int64_t j = 0; out && j < m; j++) out[x.where[j]] = x.lt[j];
        if (out) narrow(out, a->dtype, a->classes, written);
        if (to->values) to->values[row] = value;
        sum += value;
    }
    if (!to->values) *to->mean = (float)(sum * to->share);
    free(x.memory);
    return DONE;
}

/* The mean of values that several threads wrote, added in the order of the rows. */
int add_rows(const Rows *a, const Mean *to, int64_t first, int64_t last) {
    (void)a;
    double sum = 0;
    for (int64_t row = first; row < last; row++) sum += to->values[row];
    *to->mean = (float)(sum * to->share);
    return DONE;
}
