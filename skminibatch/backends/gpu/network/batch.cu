// A batch and its loss. Stands behind steps.cu.

// Packed by `network.BATCH`. `stride`: of the rows of `inputs`, which end with a one where the first layer has an intercept.
// `lengths`, `lengths_before` and `squares` are null where the gradients of rows are not measured.
struct Batch {
    T *inputs, *targets;
    double *weights, *lengths;
    T *raw, *derivatives;          // outputs, and derivatives by them
    const double* lengths_before;  // of what entered the last layer
    double *losses, *squares;
    const double* numbers;  // of the loss
    int b, n, stride, has_one, n_targets, n_outputs;
};

/* The loss of a row with these outputs, and derivatives `d` of the mean loss by them; the square of these. */
template <class L>
HD double residuals_of(const L& loss, const Batch& batch, int i, const T* raw, T* d) {
    const double weight = batch.weights[i];
    const T* y = batch.targets + Index(i) * batch.n_targets;
    batch.losses[i] = weight * double(loss.value_gradient(raw, y, d, batch.n_outputs));
    double square = 0;
    for (int k = 0; k < batch.n_outputs; ++k) {
        d[k] = T(weight * double(d[k])) / T(batch.b);
        square += double(d[k] * d[k]);
    }
    return square;
}
