//! Tells cargo that new files of the dashboard and new templates of policies are part of the crate; of those that it has,
//! the compiler tells.

fn main() {
    println!("cargo:rerun-if-changed=web");
    println!("cargo:rerun-if-changed=policies/examples");
}
