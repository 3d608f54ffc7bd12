"""The loops of `grf` and `norm`, compiled by Numba: each reads and writes its maps once.

Shape letters as in `network`; maps are (B, H, W, C), channels last, in float32,
float64, or bfloat16 as 16-bit integers. Arithmetic has the type of the per-channel
arrays, float32 for bfloat16. Sums are accumulated per sample, so that the result does
not depend on the number of threads (`over_samples`). Each map has `rows` (B,) real rows;
the rows after them are padding, which is not read, and written as zero.
"""

from __future__ import annotations

import numpy as np

from mfhca_train.model.cpu.machine_code import compiled
from mfhca_train.model.cpu.numba_tools import narrow, widen

# A loop over the channels alone is too short, and one that writes several arrays is not vectorised by the
# compiler. So a row of a map is processed as one line of W C numbers (per-channel arrays are repeated to that
# length, see `tiled`), and each inner loop writes one array.


@compiled
def moments(first, last, x, rows, mean, squares):  # type: ignore[no-untyped-def]
    """Mean, and sum of squared deviations from it, per channel and sample: (B, C) each."""
    _, _, width, channels = x.shape
    total, centre = np.zeros((2, width * channels), mean.dtype)
    for b in range(first, last):
        height = rows[b]
        total[:] = 0
        for h in range(height):
            line = x[b, h].reshape(-1)
            for n in range(len(line)):
                total[n] += widen(line[n])
        for c in range(channels):
            mean[b, c] = total[c::channels].sum() / (height * width)
        for n in range(len(centre)):
            centre[n] = mean[b, n % channels]
        total[:] = 0
        for h in range(height):
            line = x[b, h].reshape(-1)
            for n in range(len(line)):
                centred = widen(line[n]) - centre[n]
                total[n] += centred * centred
        for c in range(channels):
            squares[b, c] = total[c::channels].sum()


@compiled
def pool_forward(first, last, x, rows, sign, pooled, index):  # type: ignore[no-untyped-def]
    """The maximum of 3 x 3 values (the minimum where the sign is -1), stride 2, and which of the nine it is.

    Of equal values the first one, row by row, as in torch. `rows` are those of x.
    """
    _, _, width, channels = pooled.shape
    for b in range(first, last):
        height = (rows[b] - 1) // 2
        pooled[b, height:] = 0
        for h in range(height):
            for w in range(width):
                for c in range(channels):
                    top = widen(x[b, 2 * h, 2 * w, c]) * sign[c]
                    at = 0
                    for k in range(1, 9):
                        value = widen(x[b, 2 * h + k // 3, 2 * w + k % 3, c]) * sign[c]
                        if value > top or value != value:
                            top, at = value, k
                    pooled[b, h, w, c] = narrow(top * sign[c], pooled)
                    index[b, h, w, c] = at


@compiled
def pool_backward(first, last, x, rows, d, index, scale, slope, offset, d_x):  # type: ignore[no-untyped-def]
    """d_x = offset + slope x, plus scale d where each pooled value came from. Per-channel arrays are tiled."""
    _, _, width, channels = x.shape
    line = np.empty(width * channels, scale.dtype)
    routed = np.empty(d.shape[2] * channels, scale.dtype)
    for b in range(first, last):
        height = rows[b]
        d_x[b, height:] = 0
        for h in range(height):
            source, out = x[b, h].reshape(-1), d_x[b, h].reshape(-1)
            for n in range(len(line)):
                line[n] = offset[n] + slope[n] * widen(source[n])
            # The pooled rows whose windows include row h.
            for i in range(max(0, (h - 1) // 2), min(h // 2 + 1, (height - 1) // 2)):
                d_row, position = d[b, i].reshape(-1), index[b, i].reshape(-1)
                for k in range(3):
                    at = 3 * (h - 2 * i) + k
                    for n in range(len(routed)):
                        routed[n] = scale[n] * widen(d_row[n]) if position[n] == at else 0 * scale[n]
                    for w in range(d.shape[2]):
                        target, part = line[(2 * w + k) * channels :], routed[w * channels :]
                        for c in range(channels):
                            target[c] += part[c]
            for n in range(len(line)):
                out[n] = narrow(line[n], d_x)


@compiled
def pools_forward(first, last, x, rows, scale, shift, rate, z_h, z_w, low):  # type: ignore[no-untyped-def]
    """Eq. 1, 2 and AvgPool_r of eq. 7 of the map ReLU(scale x + shift); scale and shift are tiled."""
    _, _, width, channels = x.shape
    covered, columns = low.shape[1] * rate, low.shape[2] * rate
    line = np.empty(width * channels, scale.dtype)
    for b in range(first, last):
        height = rows[b]
        z_w[b], low[b] = 0, 0
        z_h[b, height:] = 0
        along = z_w[b].reshape(-1)
        for h in range(height):
            source = x[b, h].reshape(-1)
            for n in range(len(line)):
                value = widen(source[n]) * scale[n] + shift[n]
                line[n] = 0 * value if value < 0 else value
            for n in range(len(line)):
                along[n] += line[n]
            total = z_h[b, h]
            total[:] = 0
            for w in range(width):
                part = line[w * channels :]
                for c in range(channels):
                    total[c] += part[c]
            if h < covered:
                for w in range(columns):
                    cell, part = low[b, h // rate, w // rate], line[w * channels :]
                    for c in range(channels):
                        cell[c] += part[c]
        z_h[b, :height] /= width
        z_w[b] /= height
        for i in range(low.shape[1]):  # a cell at the end may have fewer real rows than the others
            low[b, i] /= max(1, min(rate, height - i * rate)) * rate


@compiled
def pools_backward(first, last, x, rows, scale, shift, rate, d_h, d_w, d_low, d_n):  # type: ignore[no-untyped-def]
    """The gradient of `pools_forward` with respect to scale x + shift; scale and shift are tiled."""
    _, _, width, channels = x.shape
    covered, columns = d_low.shape[1] * rate, d_low.shape[2] * rate
    line = np.empty(width * channels, scale.dtype)
    one = scale.dtype.type(1)
    per_width = one / width
    for b in range(first, last):
        height = rows[b]
        per_height = one / height
        d_n[b, height:] = 0
        along = d_w[b].reshape(-1)
        for h in range(height):
            source, out = x[b, h].reshape(-1), d_n[b, h].reshape(-1)
            for n in range(len(line)):
                line[n] = along[n] * per_height
            for w in range(width):
                part, d_row = line[w * channels :], d_h[b, h]
                for c in range(channels):
                    part[c] += d_row[c] * per_width
            if h < covered:
                per_cell = one / (min(rate, height - h // rate * rate) * rate)
                for w in range(columns):
                    cell, part = d_low[b, h // rate, w // rate], line[w * channels :]
                    for c in range(channels):
                        part[c] += cell[c] * per_cell
            for n in range(len(line)):
                blocked = widen(source[n]) * scale[n] + shift[n] <= 0
                out[n] = narrow(0 * line[n] if blocked else line[n], d_n)


@compiled
def sum_forward(first, last, x, rows, scale, shift, g_h, g_w, low, along_h, along_w, y):  # type: ignore[no-untyped-def]
    """Eq. 6-8: Y = X (2 + g_h g_w) + Up(low) with X = ReLU(scale x + shift).

    `along_h` (H, 3) and `along_w` (W, 3) are made by `grf.interpolation`.
    """
    _, _, width, channels = x.shape
    for b in range(first, last):
        height = rows[b]
        y[b, height:] = 0
        for h in range(height):
            p, q, t = int(along_h[h, 0]), int(along_h[h, 1]), along_h[h, 2]
            row = low[b, p] * (1 - t) + low[b, q] * t
            for w in range(width):
                i, j, u = int(along_w[w, 0]), int(along_w[w, 1]), along_w[w, 2]
                for c in range(channels):
                    value = widen(x[b, h, w, c]) * scale[c] + shift[c]
                    value = 0 * value if value < 0 else value
                    up = row[i, c] * (1 - u) + row[j, c] * u
                    y[b, h, w, c] = narrow(value * (2 + g_h[b, h, c] * g_w[b, w, c]) + up, y)


@compiled
def sum_backward(  # type: ignore[no-untyped-def]
    first, last, x, rows, scale, shift, g_h, g_w, along_h, along_w, d_y, d_n, d_h, d_w, d_low
):
    """The gradients of `sum_forward` for scale x + shift, g_h, g_w and low; scale and shift are tiled."""
    _, _, width, channels = x.shape
    line, gate = np.empty((2, width * channels), scale.dtype)
    tall = np.empty((d_low.shape[1], width * channels), scale.dtype)  # d_y reduced to the height of low
    for b in range(first, last):
        height = rows[b]
        d_w[b], d_low[b], tall[:] = 0, 0, 0
        d_h[b, height:], d_n[b, height:] = 0, 0
        along, columns = d_w[b].reshape(-1), g_w[b].reshape(-1)
        for h in range(height):
            source, d_row, out = x[b, h].reshape(-1), d_y[b, h].reshape(-1), d_n[b, h].reshape(-1)
            p, q, t = int(along_h[h, 0]), int(along_h[h, 1]), along_h[h, 2]
            for w in range(width):
                part, g_row = gate[w * channels :], g_h[b, h]
                for c in range(channels):
                    part[c] = g_row[c]
            for n in range(len(line)):
                value = widen(source[n]) * scale[n] + shift[n]
                line[n] = 0 * value if value <= 0 else value * widen(d_row[n])
            for n in range(len(line)):
                blocked = widen(source[n]) * scale[n] + shift[n] <= 0
                d = widen(d_row[n]) * (2 + gate[n] * columns[n])
                out[n] = narrow(0 * d if blocked else d, d_n)
            for n in range(len(line)):
                along[n] += line[n] * gate[n]
            total = d_h[b, h]
            total[:] = 0
            for w in range(width):
                part, other = line[w * channels :], columns[w * channels :]
                for c in range(channels):
                    total[c] += part[c] * other[c]
            near, far = tall[p], tall[q]
            for n in range(len(line)):
                near[n] += widen(d_row[n]) * (1 - t)
            for n in range(len(line)):
                far[n] += widen(d_row[n]) * t
        for h in range(d_low.shape[1]):
            for w in range(width):
                i, j, u = int(along_w[w, 0]), int(along_w[w, 1]), along_w[w, 2]
                part, near, far = tall[h, w * channels :], d_low[b, h, i], d_low[b, h, j]
                for c in range(channels):
                    near[c] += part[c] * (1 - u)
                for c in range(channels):
                    far[c] += part[c] * u


@compiled
def norm_sums(first, last, x, rows, d, mean, d_times_x, d_sum):  # type: ignore[no-untyped-def]
    """Sums of d (x - mean) and of d per channel and sample: (B, C) each; mean is tiled."""
    _, _, width, channels = x.shape
    for b in range(first, last):
        height = rows[b]
        dots, total = np.zeros((2, width * channels), mean.dtype)
        for h in range(height):
            source, d_row = x[b, h].reshape(-1), d[b, h].reshape(-1)
            for n in range(len(total)):
                dots[n] += widen(d_row[n]) * (widen(source[n]) - mean[n])
            for n in range(len(total)):
                total[n] += widen(d_row[n])
        for c in range(channels):
            d_times_x[b, c], d_sum[b, c] = dots[c::channels].sum(), total[c::channels].sum()


@compiled
def norm_backward(first, last, x, rows, d, scale, slope, offset, d_x):  # type: ignore[no-untyped-def]
    """d_x = scale d + slope x + offset; per-channel arrays are tiled."""
    for b in range(first, last):
        d_x[b, rows[b] :] = 0
        for h in range(rows[b]):
            source, d_row, out = x[b, h].reshape(-1), d[b, h].reshape(-1), d_x[b, h].reshape(-1)
            for n in range(len(out)):
                out[n] = narrow(scale[n] * widen(d_row[n]) + slope[n] * widen(source[n]) + offset[n], d_x)
