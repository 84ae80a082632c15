export async function runCases() { return []; }
