//! Refuses modules that would take very long, or very much memory, to compile. The engine cannot stop compiling once it
//! has begun, so the time is estimated before, from what makes the compiler slow. The factors were measured on modules
//! made for the purpose, with a release build on a machine with two cores of 2024. It is an
//! estimate: most shapes were within a factor of three of it, very many tiny functions or branches took longer.
//! Modules that compilers of languages make are far below, whatever the language.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

use crate::policy::{ModuleError, wasm::abi};

/// What a module may take by the estimate. The JavaScript and Python runtimes, 6 to 10 MB of code, take half.
const SECONDS_MAX: u64 = 40;

/// Bytes of one function: what the compiler needs for it grows faster than it.
const FUNCTION_BYTES_MAX: u64 = 1 << 20;

/// Local variables times branches of one function. The compiler may keep a value for each local at each of them: 35
/// bytes, so that this is half a gigabyte.
const LOCALS_TIMES_BRANCHES_MAX: u64 = 16 << 20;

/// What makes a function slow to compile.
#[derive(Debug, Default)]
struct Function {
    bytes: u64,
    locals: u64,
    /// Places where the flow of control divides or meets.
    branches: u64,
    loops: u64,
    /// Loops in each other.
    loop_depth: u64,
}

/// Checks a binary, core module or component, before it is compiled.
pub(super) fn check(binary: &[u8]) -> Result<(), ModuleError> {
    let mut nanoseconds: u64 = 0;
    for payload in Parser::new(0).parse_all(binary) {
        if let Payload::CodeSectionEntry(body) = payload.map_err(malformed)? {
            let function = Function::of(&body).map_err(malformed)?;
            bounded("bytes in one function", function.bytes, FUNCTION_BYTES_MAX)?;
            let product = function.locals.saturating_mul(function.branches);
            let what = "local variables times branches in one function";
            bounded(what, product, LOCALS_TIMES_BRANCHES_MAX)?;
            nanoseconds = nanoseconds.saturating_add(function.nanoseconds());
            bounded("seconds of work for the compiler", nanoseconds / 1_000_000_000, SECONDS_MAX)?;
        }
    }
    Ok(())
}

impl Function {
    fn of(body: &FunctionBody<'_>) -> wasmparser::Result<Self> {
        let range = body.range();
        let mut function = Self { bytes: (range.end - range.start) as u64, ..Self::default() };
        for group in body.get_locals_reader()? {
            function.locals += u64::from(group?.0);
        }
        // Of each open block, whether it is a loop.
        let mut open = Vec::new();
        let mut depth = 0;
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Loop { .. } => {
                    open.push(true);
                    depth += 1;
                    function.loops += 1;
                    function.loop_depth = function.loop_depth.max(depth);
                }
                Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                    open.push(false);
                }
                Operator::End => {
                    depth -= u64::from(open.pop().unwrap_or_default());
                    continue;
                }
                Operator::Else
                | Operator::Br { .. }
                | Operator::BrIf { .. }
                | Operator::BrTable { .. }
                | Operator::Return
                | Operator::Unreachable => {}
                _ => continue,
            }
            function.branches += 1;
        }
        Ok(function)
    }

    /// The estimate.
    fn nanoseconds(&self) -> u64 {
        let Self { bytes, locals, branches, loops, loop_depth } = self;
        let terms = [
            (150_000, 1),
            (2_000, *bytes),
            (100, *locals),
            (1, branches.saturating_mul(*branches) / 3),
            (150, locals.saturating_mul(*branches)),
            (3_000, loops.saturating_mul(*loops)),
            (350, locals.saturating_mul(loop_depth.saturating_mul(*loop_depth))),
        ];
        let times = terms.map(|(factor, count): (u64, u64)| factor.saturating_mul(count));
        times.into_iter().fold(0, u64::saturating_add)
    }
}

fn bounded(what: &str, count: u64, max: u64) -> Result<(), ModuleError> {
    if count <= max {
        return Ok(());
    }
    Err(ModuleError(format!(
        "has {count} {what}, more than {max}: build it smaller, with optimisation"
    )))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn malformed(error: wasmparser::BinaryReaderError) -> ModuleError {
    abi::refusal(&format!("is no WebAssembly: {error}"))
}

#[cfg(test)]
mod tests {
    use super::check;

    /// A module with so many functions of these locals and body.
    fn module(functions: usize, locals: usize, body: &str) -> Vec<u8> {
        let locals =
            if locals == 0 { String::new() } else { format!("(local{})", " i32".repeat(locals)) };
        let function = format!("(func (param i32) {locals} {body})");
        wat::parse_str(format!("(module {})", function.repeat(functions))).unwrap()
    }

    /// Functions with 49,000 local variables each, in a few bytes.
    fn many_locals(functions: u32) -> Vec<u8> {
        let byte = |value: u32| u8::try_from(value).unwrap();
        let [low, high] = [byte((functions & 0x7f) | 0x80), byte(functions >> 7)];
        let section = |id: u8, items: &[u8], count: usize| {
            let body = [&[low, high][..], &items.repeat(count)].concat();
            let size = u32::try_from(body.len()).unwrap();
            let size = [(size & 0x7f) | 0x80, ((size >> 7) & 0x7f) | 0x80, size >> 14].map(byte);
            [&[id][..], &size, &body].concat()
        };
        let count = usize::try_from(functions).unwrap();
        let types = [1, 4, 1, 0x60, 0, 0];
        let function = [6, 1, 0xe8, 0xfe, 2, 0x7f, 0x0b];
        let (indices, code) = (section(3, &[0], count), section(10, &function, count));
        [&b"\0asm\x01\0\0\0"[..], &types, &indices, &code].concat()
    }

    fn nested(count: usize, open: &str, within: &str) -> String {
        format!("{}{within}{}", open.repeat(count), ")".repeat(count))
    }

    #[test]
    fn what_takes_compilers_too_long_is_refused_and_what_people_write_is_not() {
        let step = "(local.set 1 (i32.add (local.get 0) (local.get 1)))";
        let branch = "(block (br_if 0 (local.get 0)))";
        let again = "(loop (br_if 0 (local.get 0)))";
        let good = [
            module(1, 0, ""),
            module(2_000, 20, &step.repeat(10)),
            module(1, 100, &branch.repeat(10_000)),
            module(10, 500, &again.repeat(100)),
            module(10, 100, &nested(20, "(loop ", step)),
        ];
        for (number, binary) in good.iter().enumerate() {
            assert_eq!(check(binary), Ok(()), "{number}");
        }
        let bad = [
            (module(1, 1, &step.repeat(200_000)), "bytes in one function"),
            (many_locals(10_000), "seconds"),
            (module(1, 10_000, &branch.repeat(1_000)), "local variables times branches"),
            (module(1, 10, &again.repeat(6_000)), "seconds"),
            (module(1, 1_000, &nested(500, "(loop ", step)), "seconds"),
            (module(1, 1, &nested(5_000, "(loop ", step)), "seconds"),
            (module(100, 100, &again.repeat(500)), "seconds"),
        ];
        for (binary, part) in &bad {
            let reason = check(binary).unwrap_err().0;
            assert!(
                reason.contains(part) && reason.contains("build it smaller"),
                "{part}: {reason}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut binary = module(1, 1, "(drop (local.get 0))");
        assert_eq!(check(&binary), Ok(()));
        // The body is cut off.
        let end = binary.len() - 1;
        binary.truncate(end);
        assert!(check(&binary).unwrap_err().0.starts_with("is no WebAssembly: "));
    }
}
