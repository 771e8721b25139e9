"""What tests share: made-up data, planted truths, stand-ins and comparisons."""
