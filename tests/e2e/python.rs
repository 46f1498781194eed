//! The official Python client.

use crate::{
    cluster::Cluster,
    tools::{self, Tool, can_use},
};

#[test]
fn typed_and_dynamic_clients_work() {
    if can_use(&[Tool::PythonClient]) {
        let cluster = Cluster::start();
        let script = "tests/clients/client.py";
        tools::run(cluster.client_command(Tool::PythonClient, &[script])).succeeded();
    }
}
