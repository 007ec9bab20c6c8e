"""Run Adam as TensorFlow's fused kernel: one pass over the weights, where Keras takes a dozen."""

from fashion.model.backend import keras, tf


class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam, which updates each variable by one operation, `ResourceApplyAdam`.

    Both compute the update at the end of section 2 of Kingma and Ba, "Adam: A Method for Stochastic
    Optimization" (2015), with its epsilon hat, but round the last bits differently. The kernel has
    no `amsgrad`.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update a variable and its moments in place."""
        index, dtype = self._get_variable_index(variable), variable.dtype
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.cast(tf.pow(self.beta_1, step), dtype),
            beta2_power=tf.cast(tf.pow(self.beta_2, step), dtype),
            lr=tf.cast(learning_rate, dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
