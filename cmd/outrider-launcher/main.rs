//! `outrider-launcher [--root DIR] [ARGS…]`: what the system starts. It becomes `outrider ARGS…` of the version that is to
//! run, and takes a version back that cannot even start.

use std::process::ExitCode;

fn main() -> ExitCode {
    outrider_versions::launch::main()
}
