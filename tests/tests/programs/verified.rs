//! What the kernel's verifier asks of the programs, and how large they are: neither may be more than was accepted, and a
//! tenth; and their stack has to suffice on older kernels than this one.

use datapath_tests::{budgets, stack};

#[test]
fn programs_keep_within_their_budgets() {
    let counts = budgets::count().unwrap();
    let (text, over) = budgets::compare(&counts, &budgets::read().unwrap());
    print!("{text}");
    assert!(
        !over,
        "there is more of a program, or the verifier reads more of it, than its budget allows, and a tenth:\n{text}\
         Make it smaller; or, if it is worth that, run `cargo xtask bench --budgets` and commit {}",
        "tests/tests/programs/verified.txt"
    );
}

#[test]
fn chains_of_calls_fit_the_stack_of_older_kernels() {
    let depths = stack::depths().unwrap();
    assert!(depths.len() > 10, "{depths:?}");
    println!("{depths:?}");
    for (program, depth) in &depths {
        assert!(
            *depth <= stack::LIMIT,
            "{program}: {depth} of {} bytes on Linux before 6.9: it would not load there. Give what is only needed \
             before a call a call of its own.",
            stack::LIMIT
        );
    }
}
