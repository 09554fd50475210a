/* The fused split of every direction but forward, on a CPU: values, the gradient, or both from one look at the logits.

   Inside a group with softmax p of the teacher and q of the student, what the gradient of the divergence has to say of
   a class is its tilt, relative to the mean over q: log q/p for reverse KL, and against a mixture M = w p + v q, with a
   and c the factors of KL(p || M) and KL(q || M),

       c log q/M - v (a p + c q) / M

   where p, q and M are those of the whole row, less the same of the masses: within holds its masses. */

#include "rows.h"

enum { REVERSE, JSD, SKEW, SKEW_REVERSE };

/* What is wanted (NULL: not); the weights of mean follow directly behind, in place of what arrives. */
typedef struct {
    int64_t way;
    double a, c, w;
    Read read;
    Write write;
    Mean mean;
} Directed;

/* log(x) of a normal number: its exponent, and a polynomial (error 6e-9) around 1, so that the logarithm of a ratio near
   1 is as exact as the ratio. NaN stays NaN. */
static inline float log_of(float x) {
    union { float f; int32_t i; } bits = {.f = x}, near;
    const int32_t shifted = bits.i - 0x3f3504f3; /* sqrt(1/2) */
    const float e = (float)(shifted >> 23);
    near.i = (shifted & 0x7fffff) + 0x3f3504f3;
    const float f = near.f - 1.0f;
    float p = -7.6344930e-2f;
    p = p * f + 1.27615750e-1f;
    p = p * f - 1.31601825e-1f;
    p = p * f + 1.42017588e-1f;
    p = p * f - 1.66233569e-1f;
    p = p * f + 2.00012267e-1f;
    p = p * f - 2.50008196e-1f;
    p = p * f + 3.33333313e-1f;
    return e * 0.693147182f + (f + f * f * (p * f - 0.5f)) + (x - x);
}

/* Of reverse KL: t becomes the difference of the distances to both largest logits, student first. */
static void sum_reverse(float *t, float *s, int64_t n, float rate, Group *g) {
    const float best_t = (float)g->best_t, best_s = (float)g->best_s;
    g->sum_t = g->sum_s = g->gap = 0;
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t stop = start + BLOCK < n ? start + BLOCK : n;
        float sum_t = 0, sum_s = 0, gap = 0;
#pragma omp simd reduction(+ : sum_t, sum_s, gap)
        for (int64_t i = start; i < stop; i++) {
            const float x = t[i] - best_t, y = s[i] - best_s;
            const float q = power2(y * rate), d = y < -1e37f ? 0 : y - x;
            sum_t += power2(x * rate);
            sum_s += q;
            gap += q * d;
            t[i] = d;
            s[i] = q;
        }
        g->sum_t += sum_t;
        g->sum_s += sum_s;
        g->gap += gap;
    }
}

/* What one loop over a group gives: sums of p log p/M, q log q/M and q times the tilt, times the sums of both. */
typedef struct {
    double p, q, tilt;
} Looked;

/* Against a mixture: t becomes the tilt, s stays. p and q are shares of their group; share_t + share_s = 1. */
static inline Looked look(const int way, float *t, const float *s, int64_t n, double ratio, double share_t, double share_s,
                          double a, double c) {
    const float by_t = (float)(share_t * ratio), by_s = (float)share_s, r = (float)ratio, of_t = (float)(a * share_t),
                of_s = (float)(c * share_s), of_log = (float)c;
    Looked found = {0, 0, 0};
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t stop = start + BLOCK < n ? start + BLOCK : n;
        float sum_p = 0, sum_q = 0, sum_tilt = 0;
#pragma omp simd reduction(+ : sum_p, sum_q, sum_tilt)
        for (int64_t i = start; i < stop; i++) {
            const float p = t[i], q = s[i];
            float m = by_t * p + by_s * q;
            m = m < 1e-30f ? 1e-30f : m; /* what is so small in both has no weight */
            const float inverse = 1.0f / m, of_p = p * r * inverse, of_q = q * inverse;
            float tilt = 0;
            if (way != SKEW) {
                const float log_q = log_of(of_q);
                sum_q += q * log_q;
                tilt = of_log * log_q;
            }
            if (way == SKEW_REVERSE) tilt -= of_s * of_q;
            if (way == SKEW) tilt = -(of_t * of_p);
            if (way != SKEW_REVERSE) sum_p += p * log_of(of_p);
            sum_tilt += q * tilt;
            t[i] = tilt;
        }
        found.p += sum_p;
        found.q += sum_q;
        found.tilt += sum_tilt;
    }
    return found;
}

/* KL inside a group (a mixture's with its masses), and its tilt: offset + slope times what t holds, with its mean. */
static void close_group(const Rows *a, const Directed *by, Group *k, float *t, const float *s,
                        int64_t n) {
    if (by->way == REVERSE) {
        k->slope = 1 / a->temperature, k->offset = k->ln_t - k->ln_s;
        k->mean = k->within = k->gap / (a->temperature * k->sum_s) + k->offset;
        k->tilt = k->log_s - k->log_t;
        return;
    }
    const double v = 1 - by->w, log_t = log(by->w) + k->log_t, log_s = log(v) + k->log_s;
    const double log_m = (log_t > log_s ? log_t : log_s) + log1p(exp(-fabs(log_t - log_s)));
    const double share_t = exp(log_t - log_m), share_s = exp(log_s - log_m), of_t = v * by->a / by->w;
    const double flat = by->way == JSD ? 0 : of_t * share_t + by->c * share_s; /* of jsd the same for every class */
    k->slope = 1, k->offset = flat;
    k->tilt = by->c * (k->log_s - log_m) - flat;
    k->within = k->mean = 0;
    if (k->count == 1) return;
    const double ratio = k->sum_s / k->sum_t;
    Looked found;
    if (by->way == JSD)
        found = look(JSD, t, s, n, ratio, share_t, share_s, of_t, by->c);
    else if (by->way == SKEW)
        found = look(SKEW, t, s, n, ratio, share_t, share_s, of_t, by->c);
    else
        found = look(SKEW_REVERSE, t, s, n, ratio, share_t, share_s, of_t, by->c);
    k->within = by->a * k->mass_t * found.p / k->sum_t + by->c * k->mass_s * found.q / k->sum_s;
    k->mean = found.tilt / k->sum_s + flat;
}

static double between_groups(const Rows *a, const Directed *by, const Group *group) {
    double sum = 0;
    for (int64_t g = 0; g < a->groups; g++) {
        const Group *k = &group[g];
        if (!k->count) continue;
        if (by->way == REVERSE) {
            sum += k->mass_s * (k->log_s - k->log_t);
            continue;
        }
        const double log_t = log(by->w) + k->log_t, log_s = log1p(-by->w) + k->log_s;
        const double log_m = (log_t > log_s ? log_t : log_s) + log1p(exp(-fabs(log_t - log_s)));
        sum += by->a * k->mass_t * (k->log_t - log_m) + by->c * k->mass_s * (k->log_s - log_m);
    }
    return a->temperature * a->temperature * sum;
}

/* The gradient of one row, for what arrives at between, at within of every group, and at the student's log masses. */
static void write_row(const Rows *a, const Directed *by, Scratch *x, int64_t m, double between, const double *within,
                      const double *log_s, float *out) {
    const double T = a->temperature;
    double mean = 0, all = 0, inner = 0;
    for (int64_t g = 0; g < a->groups; g++) {
        const Group *k = &x->group[g];
        if (!k->count) continue;
        mean += k->mass_s * k->tilt;
        all += log_s ? log_s[g] : 0;
        if (by->way != REVERSE && k->count > 1) inner += within[g] * k->mass_s * k->mean;
    }
    for (int64_t g = a->groups - 1; g >= 0; g--) { /* the rest first: it writes all classes */
        const Group *k = &x->group[g];
        double base = 0, slope = 0;
        if (k->count) base = T * between * k->mass_s * (k->tilt - mean);
        if (k->count && log_s) base += (log_s[g] - k->mass_s * all) / T;
        if (by->way != REVERSE) base -= T * k->mass_s * inner;
        if (k->count > 1) {
            slope = T * within[g] * (by->way == REVERSE ? 1 : k->mass_s);
            base += slope * (k->offset - (by->way == REVERSE ? k->mean : 0));
            slope *= k->slope;
        }
        const int rest = g == a->groups - 1;
        const float A = (float)(base / k->sum_s), B = (float)(slope / k->sum_s);
        const float *t = rest ? x->t : x->lt + k->start, *s = rest ? x->s : x->ls + k->start;
        float *to = rest ? out : x->lt + k->start;
        const int64_t n = rest ? a->classes : k->count;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) to[i] = s[i] * (A + B * t[i]);
    }
    for (int64_t j = 0; j < m; j++) out[x->where[j]] = x->lt[j];
}

static void keep_values(const Rows *a, const Read *to, int64_t row, double between, const Group *group) {
    to->between[row] = (float)between;
    for (int64_t g = 0; g < a->groups; g++) {
        const int64_t at = row * a->groups + g;
        to->within[at] = (float)(a->temperature * a->temperature * group[g].within);
        to->log_t[at] = (float)group[g].log_t, to->log_s[at] = (float)group[g].log_s;
    }
}

/* What arrives at one row; the return value is what arrives at between. */
static double arriving(const Rows *a, const Write *by, int64_t row, double *within, double *log_s) {
    for (int64_t g = 0; g < a->groups; g++) {
        within[g] = by->within ? by->within[row * by->within_row + g * by->within_group] : 0;
        log_s[g] = by->log_s ? by->log_s[row * by->log_s_row + g * by->log_s_group] : 0;
    }
    return by->between ? by->between[row * by->between_row] : 0;
}

/* Rows first..last-1. */
int direct_rows(const Rows *a, const Directed *by, int64_t first, int64_t last) {
    Scratch x;
    if (make_scratch(a, &x)) return NO_MEMORY;
    const double *weights = (const double *)(by + 1), square = a->temperature * a->temperature, share = by->mean.share;
    double *within = malloc(2 * a->groups * sizeof(double)), *log_s = within + a->groups, sum = 0;
    if (!within) return free(x.memory), NO_MEMORY;
    int code = DONE;
    for (int64_t row = first; row < last; row++) {
        const int64_t m = load(a, row, &x);
        if (m < 0) {
            code = NO_SUCH_CLASS;
            break;
        }
        sum_row(a, &x, m, by->way == REVERSE ? sum_reverse : sum_exponentials);
        close_masses(a, x.group);
        for (int64_t g = 0; g < a->groups; g++) {
            Group *k = &x.group[g];
            const int rest = g == a->groups - 1;
            float *t = rest ? x.t : x.lt + k->start, *s = rest ? x.s : x.ls + k->start;
            if (k->count) close_group(a, by, k, t, s, rest ? a->classes : k->count);
            if (k->count == 1) k->within = 0;
        }
        const double between = between_groups(a, by, x.group);
        if (by->read.between) keep_values(a, &by->read, row, between, x.group);
        double value = 0, came = 0;
        if (by->mean.mean) {
            value = weights[0] * between, came = weights[0] * share;
            for (int64_t g = 0; g < a->groups; g++) {
                value += weights[1 + g] * square * x.group[g].within;
                within[g] = weights[1 + g] * share;
            }
            if (by->mean.values) by->mean.values[row] = value;
            sum += value;
        } else if (by->write.out) {
            came = arriving(a, &by->write, row, within, log_s);
        }
        if (!by->write.out) continue;
        char *written = (char *)row_of(by->write.out, by->write.out_row, row, a->dtype);
        float *out = a->dtype == FLOAT32 ? (float *)written : x.t;
        write_row(a, by, &x, m, came, within, by->write.log_s ? log_s : NULL, out);
        narrow(out, a->dtype, a->classes, written);
    }
    if (by->mean.mean && !by->mean.values) *by->mean.mean = (float)(sum * share);
    free(within);
    free(x.memory);
    return code;
}
