//! Builds the route table from Kubernetes objects.
