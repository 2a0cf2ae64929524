//! How much of the programs the kernel's verifier has to read: no more than was accepted, and a tenth.

use datapath_tests::budgets;

#[test]
fn programs_keep_within_their_budgets() {
    let counts = budgets::count().unwrap();
    let (text, over) = budgets::compare(&counts, &budgets::read().unwrap());
    print!("{text}");
    assert!(
        !over,
        "the verifier reads more of a program than its budget allows, and a tenth:\n{text}\
         Make it smaller; or, if it is worth that, run `cargo xtask bench --budgets` and commit {}",
        "tests/tests/programs/verified.txt"
    );
}
