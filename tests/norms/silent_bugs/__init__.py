"""Silent bugs: small, real training loops, each with a mistake that raises no error, and the norm that finds it.

Every loop reads as a user would write it and runs under the real probes, which feed the real judge (balanced).
``fixed`` takes the mistake out and nothing else: that run must raise nothing. Steps are counted from the first on which
the bug acts: 0 is at once, and for what is known before training, before the first step.

    bug                                         norm                    steps
    dropout_on_while_evaluating                 eval-mode                   0
    batch_norm_learns_from_validation           eval-mode                   0
    functional_dropout_that_knows_no_mode       eval-mode                   0
    training_left_in_evaluation_mode            train-mode                  1
    backbone_left_in_evaluation_mode            train-mode                  1
    augmented_validation_through_random_split   augmentation-leak           0
    noise_in_a_function_of_the_validation_set   augmentation-leak          23
    test_set_chooses_the_epoch                  test-selection              0
    batches_of_unequal_size_averaged            metric-aggregation          0
    last_batch_dropped_in_evaluation            metric-aggregation          0
    gradients_never_cleared                     zero-grad                   2
    gradients_of_the_wrong_object_cleared       zero-grad                   2
    cleared_between_backward_and_step           missing-grad                1
    clipped_before_unscaling                    grad-scale                  0
    accumulated_without_dividing                grad-scale                  0
    divided_by_the_loop_and_by_the_library      grad-scale                  0
    weighted_by_labels_and_divided_as_well      grad-scale                  0
    batch_that_is_not_normalised                spike                       0
    settings_of_two_other_optimizers            update-ratio               14
    deep_perceptron_of_sigmoids                 vanishing-gradient        199
    biases_that_kill_units                      dead-units                  0
    labels_in_another_order                     at-chance                 206
    collapsed_to_one_class                      at-chance                 206
    weights_that_begin_at_zero                  at-chance                 206
    gradients_zeroed_before_the_step            at-chance                 206
    softmax_before_cross_entropy                loss-contract               0
    column_against_row                          loss-contract               0
    sigmoid_applied_twice                       loss-contract               0
    probabilities_in_nll_loss                   loss-contract               0
    logarithm_of_zero                           non-finite                  0
    deviation_of_zero                           non-finite                  0
    outputs_by_way_of_numpy                     missing-grad                1
    scheduler_of_epochs_called_every_batch      scheduler                   0
    rate_decayed_to_nothing                     scheduler                  88
    rare_class_doubled_before_the_split         split-overlap               0
    slices_that_overlap                         split-overlap               0
    column_known_after_the_outcome              feature-leak                0
    set_epoch_forgotten                         reshuffle                   0
    seeded_anew_every_epoch                     reshuffle                   0
    workers_seeded_alike                        worker-rng                  0
    generator_copied_into_every_worker          worker-rng                  0
    numpy_not_seeded                            seeding                     0
    checkpoint_without_the_optimizer            checkpoint-integrity        0
    best_weights_that_go_on_training            checkpoint-integrity        0
    noise_from_an_unseeded_generator            determinism                 0
    better_by_one_seed                          single-run                  0
    forgotten_parameter_group                   optimizer-coverage          0
    head_replaced_after_the_optimizer           optimizer-coverage          0
    model_copied_after_the_optimizer            optimizer-coverage          0
    head_reset_while_training                   missing-grad               19
    updates_lost_in_bfloat16                    no-update                   2
    encoder_detached                            missing-grad                1
    encoder_under_no_grad                       missing-grad                1
    layers_in_a_list                            missing-grad                1
    layer_called_twice_for_another              missing-grad                1

When at-chance and vanishing-gradient may first speak is set by their limits: 200 updates, 20 measurements.
"""

from tests.norms.silent_bugs import evaluation, gradients, losses, progress, wiring
from tests.norms.silent_bugs.harness import BUGS, Bug, run, table

__all__ = ["BUGS", "Bug", "evaluation", "gradients", "losses", "progress", "run", "table", "wiring"]
