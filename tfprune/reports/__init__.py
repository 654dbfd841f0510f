"""Reports on pruned models: what changed, what each size achieves, what subnetworks share."""
