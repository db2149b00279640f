"""Passes over the rows of the interior point for piecewise linear losses.

With r = offset + E w the program is min sum_i phi_i(r_i) + 1/2 sum_j ridge_j (w_j - center_j)^2,
where phi has slope `lo` left and `hi` right of zero. Rows are split as r = u - v with u, v >= 0;
the dual is one number in (lo, hi) per row. In the formulas a = hi - dual and b = dual - lo.
E is stored transposed, so that loops over rows run on vectors.
"""

import numpy as np
from numba import njit

CHUNK = 512
# From this many columns on, matrix products by BLAS win over plain loops.
BLAS_COLUMNS = 16
# Sums may be reordered, which lets loops run on vectors. Rows are finite; a breakdown shows in
# the certificate, which is computed without these flags.
FAST = {"reassoc", "contract", "nnan", "nsz", "arcp"}


@njit(cache=True, nogil=True, fastmath=FAST)
def combine(ET, x, start, size, out):
    """Products E x on a chunk of rows."""
    column = ET[0, start : start + size]
    factor = x[0]
    for i in range(size):
        out[i] = factor * column[i]
    for j in range(1, ET.shape[0]):
        column = ET[j, start : start + size]
        factor = x[j]
        for i in range(size):
            out[i] += factor * column[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def dots(ET, start, size, values, out):
    """Add E' values over a chunk of rows to `out`."""
    for j in range(ET.shape[0]):
        column = ET[j, start : start + size]
        total = 0.0
        for i in range(size):
            total += column[i] * values[i]
        out[j] += total


@njit(cache=True, nogil=True, fastmath=FAST)
def _add_gram(ET, start, size, q, block, scaled, gram):
    """Add E' diag(q) E over a chunk of rows to the lower triangle of `gram`."""
    d = ET.shape[0]
    if d < BLAS_COLUMNS:
        for j in range(d):
            column = ET[j, start : start + size]
            for i in range(size):
                scaled[0, i] = q[i] * column[i]
            for k in range(j + 1):
                other = ET[k, start : start + size]
                total = 0.0
                for i in range(size):
                    total += scaled[0, i] * other[i]
                gram[j, k] += total
        return
    for j in range(d):
        for i in range(size):
            block[j, i] = ET[j, start + i]
            scaled[j, i] = q[i] * block[j, i]
        for i in range(size, CHUNK):
            block[j, i] = 0.0
            scaled[j, i] = 0.0
    gram += np.dot(scaled, block.T)


@njit(cache=True, nogil=True, fastmath=FAST)
def advance(ET, offset, lo, hi, w, state, steps, gram, image, affine_right):
    """Take the step, and form what the next one needs.

    `state` has the rows u, v, a, b, du, dv, ddual, r, 1/a, 1/b, q, affine ddual; a and b are kept
    apart, as the smaller of them would drown in the rounding of the dual. Fills the Gram matrix
    E' diag(q) E, the image E' dual and E'(q r); returns the loss at w, offset' dual and the
    complementarity sum.
    """
    d, n = ET.shape
    u, v, a, b, du, dv, ddual = (
        state[0],
        state[1],
        state[2],
        state[3],
        state[4],
        state[5],
        state[6],
    )
    r, inv_a, inv_b, q = state[7], state[8], state[9], state[10]
    gram[:] = 0.0
    image[:] = 0.0
    affine_right[:] = 0.0
    wide = d >= BLAS_COLUMNS
    block = np.empty((d if wide else 1, CHUNK))
    scaled = np.empty((d if wide else 1, CHUNK))
    product = np.empty(CHUNK)
    dual = np.empty(CHUNK)
    loss, constant, complementarity = 0.0, 0.0, 0.0
    primal, dual_step = steps
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        combine(ET, w, start, size, product)
        for i in range(size):
            k = start + i
            u_k = u[k] + primal * du[k]
            v_k = v[k] + primal * dv[k]
            a_k = a[k] - dual_step * ddual[k]
            b_k = b[k] + dual_step * ddual[k]
            dual_k = hi[k] - a_k if a_k < b_k else lo[k] + b_k
            r_k = product[i] + offset[k]
            ia = 1.0 / a_k
            ib = 1.0 / b_k
            q_k = 1.0 / (u_k * ia + v_k * ib)
            u[k] = u_k
            v[k] = v_k
            a[k] = a_k
            b[k] = b_k
            dual[i] = dual_k
            inv_a[k] = ia
            inv_b[k] = ib
            q[k] = q_k
            r[k] = r_k
            product[i] = q_k * r_k
            loss += max(hi[k] * r_k, lo[k] * r_k)
            constant += offset[k] * dual_k
            complementarity += u_k * a_k + v_k * b_k
        dots(ET, start, size, product, affine_right)
        dots(ET, start, size, dual, image)
        _add_gram(ET, start, size, q[start : start + size], block, scaled, gram)
    return loss, constant, complementarity


@njit(cache=True, nogil=True, fastmath=FAST)
def affine_pass(ET, state, dw, corrected_right, centring_right):
    """The affine direction of the dual, and the right-hand sides that correct it.

    Returns the largest ratios that limit the primal and the dual step, and two sums that give the
    complementarity after any such step.
    """
    n = ET.shape[1]
    u, v, r, inv_a, inv_b, q, affine = (
        state[0],
        state[1],
        state[7],
        state[8],
        state[9],
        state[10],
        state[11],
    )
    corrected_right[:] = 0.0
    centring_right[:] = 0.0
    product = np.empty(CHUNK)
    centring = np.empty(CHUNK)
    primal_ratio, dual_ratio = 0.0, 0.0
    first, second = 0.0, 0.0
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        combine(ET, dw, start, size, product)
        for i in range(size):
            k = start + i
            total = product[i] + r[k]
            delta = q[k] * total
            pa = delta * inv_a[k]
            pb = delta * inv_b[k]
            primal_ratio = max(primal_ratio, max(-pa, pb))
            dual_ratio = max(dual_ratio, max(pa, -pb))
            first += (u[k] - v[k]) * delta
            second += delta * total
            affine[k] = delta
            product[i] = q[k] * (r[k] + u[k] * (1.0 - pa) * pa + v[k] * (1.0 + pb) * pb)
            centring[i] = q[k] * (inv_a[k] - inv_b[k])
        dots(ET, start, size, product, corrected_right)
        dots(ET, start, size, centring, centring_right)
    return 1.0 + primal_ratio, dual_ratio, first, second


@njit(cache=True, nogil=True, fastmath=FAST)
def corrector_pass(ET, state, dw, target):
    """The corrected direction of u, v and the dual, and what limits its length.

    `target` is the complementarity aimed at in each row.
    """
    n = ET.shape[1]
    u, v, du, dv, ddual = state[0], state[1], state[4], state[5], state[6]
    r, inv_a, inv_b, q, affine = state[7], state[8], state[9], state[10], state[11]
    product = np.empty(CHUNK)
    primal_ratio, dual_ratio = 0.0, 0.0
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        combine(ET, dw, start, size, product)
        for i in range(size):
            k = start + i
            ia, ib = inv_a[k], inv_b[k]
            pa = affine[k] * ia
            pb = affine[k] * ib
            second_u = (1.0 - pa) * pa
            second_v = (1.0 + pb) * pb
            g = r[k] + u[k] * second_u + v[k] * second_v - target * (ia - ib)
            delta = q[k] * (product[i] + g)
            du_k = ia * (target + u[k] * delta) - u[k] * (1.0 + second_u)
            dv_k = ib * (target - v[k] * delta) - v[k] * (1.0 - second_v)
            primal_ratio = max(primal_ratio, max(-du_k / u[k], -dv_k / v[k]))
            dual_ratio = max(dual_ratio, max(delta * ia, -delta * ib))
            du[k] = du_k
            dv[k] = dv_k
            ddual[k] = delta
    return primal_ratio, dual_ratio
