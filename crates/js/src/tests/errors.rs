use super::*;

#[tokio::test]
async fn a_thrown_error_has_its_frame_and_its_line() {
    let error = refused("#!/usr/bin/env node\nfunction f(x) {\n    return x.y.z;\n}\nf({});\n").await;
    assert_eq!(error.name, "TypeError");
    assert_eq!(error.to_string(), "TypeError: cannot read property 'z' of undefined (index.js:3:16)");
    assert_eq!(error.source_line.as_deref(), Some("    return x.y.z;"));
    let places: Vec<_> = error.stack.iter().filter(|f| f.is_user()).map(ToString::to_string).collect();
    assert_eq!(places, ["index.js:3:16", "index.js:5:1"]);
    assert_eq!(error.stack[0].function, "f");
}

#[tokio::test]
async fn positions_on_the_first_line_are_those_of_the_file() {
    assert_eq!(refused("throw new Error('a');").await.at.as_ref().unwrap().to_string(), "index.js:1:11");
}

#[tokio::test]
async fn a_syntax_error_names_the_place() {
    let error = refused("const a = 1;\nconst = 2;").await;
    assert_eq!(error.code, "E0502");
    assert_eq!(error.at.as_ref().unwrap().to_string(), "index.js:2:10");
    let program = files(&[("index.mjs", "let a;\nexport const b = ;")]);
    let error = deploy_with(program, &Arc::default()).await.unwrap_err();
    assert_eq!(error.at.as_ref().unwrap().to_string(), "index.mjs:2:1");
}

#[tokio::test]
async fn what_is_thrown_need_not_be_an_error() {
    let error = refused("throw { a: 1 };").await;
    assert_eq!(error.to_string(), "the program threw {\"a\":1}, which is not an Error");
    let error = refused("throw { get message() { throw new Error('in getter') } };").await;
    assert_eq!(error.code, "E0501");
}

#[tokio::test]
async fn causes_are_kept() {
    let error = refused("throw new Error('a', { cause: new Error('b', { cause: new Error('c') }) });").await;
    assert_eq!(error.causes, ["b", "c"]);
}

#[tokio::test]
async fn a_rejection_that_nobody_handles_fails_the_deployment() {
    let error = refused("Promise.reject(new Error('lost'));").await;
    assert_eq!(error.to_string(), "Error: lost (index.js:1:20)");
    assert!(deploy("Promise.reject(new Error('x')).catch(() => {});").await.is_ok());
    let later = "const p = Promise.reject(new Error('x')); setTimeout(() => p.catch(() => {}), 0);";
    assert!(deploy(later).await.is_err());
}

#[tokio::test]
async fn an_error_in_a_timer_fails_the_deployment() {
    let error = refused("setTimeout(() => { throw new Error('late') }, 1); setTimeout(() => {}, 5);").await;
    assert_eq!(error.message, "late");
}

#[tokio::test]
async fn process_exit_names_its_frame_even_if_caught() {
    let error = refused("try {\n  process.exit(3);\n} catch {}").await;
    assert_eq!(error.code, "E0509");
    assert_eq!(error.at.as_ref().unwrap().to_string(), "index.js:2:11");
}

#[tokio::test]
async fn endless_recursion_is_an_error_and_not_a_crash() {
    let error = refused("function f() { return f() + 1 }\nf();").await;
    assert_eq!(error.code, "E0510", "{error:?}");
    assert_eq!(error.name, "RangeError");
    let error = refused("const f = { toJSON() { return { f } } };\nJSON.stringify(f);").await;
    assert_eq!(error.code, "E0510", "{error:?}");
}

#[tokio::test]
async fn memory_beyond_the_limit_is_an_error_and_not_a_crash() {
    let source = "const cloud = require('@pulumi/cloud');
        new cloud.Function('f', () => { const all = []; for (;;) all.push('x'.repeat(1e6) + all.length); });
        new cloud.Function('g', () => 'still here');";
    let vm = worker(files(&[("index.js", source)]), &Arc::default()).await.unwrap();
    let error = vm.invoke("f", Value::Null, context()).await.unwrap_err();
    assert_eq!(error.code, "E0510", "{error:?}");
    assert_eq!(vm.invoke("g", Value::Null, context()).await.unwrap(), "still here");
}

#[tokio::test]
async fn a_top_level_that_awaits_nothing_is_told() {
    let program = files(&[("index.mjs", "await new Promise(() => {});")]);
    let error = deploy_with(program, &Arc::default()).await.unwrap_err();
    assert_eq!(error.code, "E0512");
}

#[tokio::test]
async fn an_error_reads_as_a_report() {
    use tandem_model::Explain;
    let report = refused("null.x").await.report();
    assert_eq!(report.code, "E0501");
    assert_eq!(report.message, "TypeError: cannot read property 'x' of null (index.js:1:6)");
    assert_eq!(report.causes, ["null.x"]);
}
