"""Networks and priors over arrays: the meta-learner that embeds shots, and what its embedding conditions. No I/O."""
