"""Where runs are computed: this machine, a Slurm cluster, a Kubernetes cluster."""
