"""BibTeX of what a run used: the package, NeVA, the methods, the library, the model and the data.

Fields come from the publications' pages. A long list of authors ends in `and others`.
"""

from __future__ import annotations

from importlib.metadata import version

from neva_tl.study.paper.sources import Sources

#: Key -> type and fields of an entry, as BibTeX wants them.
ENTRIES: dict[str, tuple[str, dict[str, str]]] = {
    "neva": (
        "misc",
        {
            "title": "Controllable Value Alignment in Large Language Models through Neuron-Level Editing",
            "author": "Yang, Yonghui and Li, Junwei and Liu, Jilong and He, Yicheng and Zhu, Fengbin and Huang, Weibiao and "
            "Wu, Le and Hong, Richang and Chua, Tat-Seng",
            "year": "2026",
            "eprint": "2602.07356",
            "archivePrefix": "arXiv",
        },
    ),
    "transformerlens": (
        "misc",
        {
            "title": "{TransformerLens}",
            "author": "Nanda, Neel and Bloom, Joseph",
            "year": "2022",
            "howpublished": r"\url{https://github.com/TransformerLensOrg/TransformerLens}",
        },
    ),
    "caa": (
        "inproceedings",
        {
            "title": "Steering {Llama} 2 via Contrastive Activation Addition",
            "author": "Rimsky, Nina and Gabrieli, Nick and Schulz, Julian and Tong, Meg and Hubinger, Evan and Turner, Alexander",
            "booktitle": "Proceedings of the 62nd Annual Meeting of the Association for Computational Linguistics (Volume 1: "
            "Long Papers)",
            "year": "2024",
            "pages": "15504--15522",
            "doi": "10.18653/v1/2024.acl-long.828",
        },
    ),
    "conva": (
        "misc",
        {
            "title": "Internal Value Alignment in Large Language Models through Controlled Value Vector Activation",
            "author": "Jin, Haoran and Li, Meng and Wang, Xiting and Xu, Zhihao and Huang, Minlie and Jia, Yantao and "
            "Lian, Defu",
            "year": "2025",
            "eprint": "2507.11316",
            "archivePrefix": "arXiv",
        },
    ),
    "personavectors": (
        "misc",
        {
            "title": "Persona Vectors: Monitoring and Controlling Character Traits in Language Models",
            "author": "Chen, Runjin and Arditi, Andy and Sleight, Henry and Evans, Owain and Lindsey, Jack",
            "year": "2025",
            "eprint": "2507.21509",
            "archivePrefix": "arXiv",
        },
    ),
    "saevalues": (
        "misc",
        {
            "title": "Are the Values of {LLMs} Structurally Aligned with Humans? A Causal Perspective",
            "author": "Kang, Yipeng and Wang, Junqi and Li, Yexin and Wang, Mengmeng and Tu, Wenming and Wang, Quansen and "
            "Li, Hengli and Wu, Tingjun and Feng, Xue and Zhong, Fangwei and Zheng, Zilong",
            "year": "2025",
            "eprint": "2501.00581",
            "archivePrefix": "arXiv",
        },
    ),
    "topksae": (
        "misc",
        {
            "title": "Scaling and Evaluating Sparse Autoencoders",
            "author": "Gao, Leo and Dupr{\\'e} la Tour, Tom and Tillman, Henk and Goh, Gabriel and Troll, Rajan and "
            "Radford, Alec and Sutskever, Ilya and Leike, Jan and Wu, Jeffrey",
            "year": "2024",
            "eprint": "2406.04093",
            "archivePrefix": "arXiv",
        },
    ),
    "dpnle": (
        "misc",
        {
            "title": "{DPN-LE}: Dual Personality Neuron Localization and Editing for Large Language Models",
            "author": "Zheng, Lifan and Yang, Xue and Chen, Jiawei and Wu, Chenyan and Zhang, Jingyuan and Kong, Fanheng and "
            "Zeng, Xinyi and Chen, Xiang and Tian, Yu",
            "year": "2026",
            "eprint": "2604.27929",
            "archivePrefix": "arXiv",
        },
    ),
    "npti": (
        "inproceedings",
        {
            "title": "Neuron-based Personality Trait Induction in Large Language Models",
            "author": "Deng, Jia and Tang, Tianyi and Yin, Yanbin and Yang, Wenhao and Zhao, Xin and Wen, Ji-Rong",
            "booktitle": "International Conference on Learning Representations",
            "year": "2025",
            "url": "https://openreview.net/forum?id=LYHEY783Np",
        },
    ),
    "lape": (
        "inproceedings",
        {
            "title": "Language-Specific Neurons: The Key to Multilingual Capabilities in Large Language Models",
            "author": "Tang, Tianyi and Luo, Wenyang and Huang, Haoyang and Zhang, Dongdong and Wang, Xiaolei and Zhao, Xin and "
            "Wei, Furu and Wen, Ji-Rong",
            "booktitle": "Proceedings of the 62nd Annual Meeting of the Association for Computational Linguistics (Volume 1: "
            "Long Papers)",
            "year": "2024",
            "pages": "5701--5715",
            "url": "https://aclanthology.org/2024.acl-long.309",
        },
    ),
    "austeer": (
        "misc",
        {
            "title": "Fine-Grained Activation Steering: Steering Less, Achieving More",
            "author": "Feng, Zijian and Li, Tianjiao and Zhu, Zixiao and Zhou, Hanzhang and Qian, Junlang and Zhang, Li and "
            "Chua, Jia Jim Deryl and Mak, Lee Onn and Ng, Gee Wah and Mao, Kezhi",
            "year": "2026",
            "eprint": "2602.04428",
            "archivePrefix": "arXiv",
        },
    ),
    "cna": (
        "misc",
        {
            "title": "Targeted Neuron Modulation via Contrastive Pair Search",
            "author": "Herring, Sam and Naviasky, Jake and others",
            "year": "2026",
            "eprint": "2605.12290",
            "archivePrefix": "arXiv",
        },
    ),
    "visa": (
        "misc",
        {
            "title": "{VISA}: Value Injection via Shielded Adaptation for Personalized {LLM} Alignment",
            "author": "Chen, Jiawei and Yang, Tianzhuo and Zhang, Guoxi and Ji, Jiaming and Yang, Yaodong and Dai, Juntao",
            "year": "2026",
            "eprint": "2603.04822",
            "archivePrefix": "arXiv",
        },
    ),
    "wrongway": (
        "misc",
        {
            "title": "Analyzing the Generalization and Reliability of Steering Vectors",
            "author": "Tan, Daniel and Chanin, David and Lynch, Aengus and Garriga-Alonso, Adri{\\`a} and Paige, Brooks and "
            "Kanoulas, Dimitrios and Kirk, Robert",
            "year": "2024",
            "eprint": "2407.12404",
            "archivePrefix": "arXiv",
        },
    ),
    "schwartz": (
        "incollection",
        {
            "title": "Universals in the Content and Structure of Values: Theoretical Advances and Empirical Tests in 20 "
            "Countries",
            "author": "Schwartz, Shalom H.",
            "booktitle": "Advances in Experimental Social Psychology",
            "volume": "25",
            "pages": "1--65",
            "year": "1992",
            "doi": "10.1016/S0065-2601(08)60281-6",
        },
    ),
    "valueeval": (
        "inproceedings",
        {
            "title": "The {Touch{\\'e}23-ValueEval} Dataset for Identifying Human Values behind Arguments",
            "author": "Mirzakhmedova, Nailia and Kiesel, Johannes and Alshomary, Milad and Heinrich, Maximilian and "
            "Handke, Nicolas and Cai, Xiaoni and Barriere, Valentin and Dastgheib, Doratossadat and Ghahroodi, Omid and "
            "SadraeiJavaheri, MohammadAli and Asgari, Ehsaneddin and Kawaletz, Lea and Wachsmuth, Henning and Stein, Benno",
            "booktitle": "Proceedings of the 2024 Joint International Conference on Computational Linguistics, Language "
            "Resources and Evaluation (LREC-COLING 2024)",
            "year": "2024",
            "pages": "16121--16134",
            "url": "https://aclanthology.org/2024.lrec-main.1402",
        },
    ),
    "persona": (
        "inproceedings",
        {
            "title": "Discovering Language Model Behaviors with Model-Written Evaluations",
            "author": "Perez, Ethan and Ringer, Sam and Lukosiute, Kamile and Nguyen, Karina and Chen, Edwin and "
            "Heiner, Scott and others",
            "booktitle": "Findings of the Association for Computational Linguistics: ACL 2023",
            "year": "2023",
            "url": "https://aclanthology.org/2023.findings-acl.847",
        },
    ),
    "valuebench": (
        "inproceedings",
        {
            "title": "{ValueBench}: Towards Comprehensively Evaluating Value Orientations and Understanding of Large Language "
            "Models",
            "year": "2024",
            "booktitle": "Proceedings of the 62nd Annual Meeting of the Association for Computational Linguistics (Volume 1: "
            "Long Papers)",
            "key": "ValueBench",
            "url": "https://aclanthology.org/2024.acl-long.111",
        },
    ),
    "smollm2": (
        "misc",
        {
            "title": "{SmolLM2}: When Smol Goes Big -- Data-Centric Training of a Small Language Model",
            "author": "Ben Allal, Loubna and Lozhkov, Anton and Bakouch, Elie and Mart{\\'i}n Bl{\\'a}zquez, Gabriel and "
            "Penedo, Guilherme and Tunstall, Lewis and others",
            "year": "2025",
            "eprint": "2502.02737",
            "archivePrefix": "arXiv",
        },
    ),
    "qwen2.5-coder": (
        "misc",
        {
            "title": "{Qwen2.5-Coder} Technical Report",
            "author": "Hui, Binyuan and Yang, Jian and Cui, Zeyu and Yang, Jiaxi and Liu, Dayiheng and Zhang, Lei and others",
            "year": "2024",
            "eprint": "2409.12186",
            "archivePrefix": "arXiv",
        },
    ),
}

#: Method -> keys of what it follows. Methods of the package's own have none.
OF_METHODS: dict[str, tuple[str, ...]] = {
    "neva": ("neva",),
    "neva_shift": ("neva",),
    "caa": ("caa",),
    "caa_projected": ("caa",),
    "caa_layers": ("caa",),
    "caa_layers_projected": ("caa",),
    "caa_probe": ("caa",),
    "caa_projected_probe": ("caa",),
    "conva": ("conva",),
    "persona_vector": ("personavectors",),
    "sae": ("saevalues", "topksae"),
    "dpn_le": ("dpnle",),
    "npti": ("npti",),
    "lape": ("lape",),
    "austeer": ("austeer",),
    "cna": ("cna",),
    "visa": ("visa",),
}
#: Keys of models, which are the start of their names, and of data, which are the formats that readers of prompts know.
MODELS, DATA = ("smollm2", "qwen2.5-coder"), ("valueeval", "persona", "valuebench")


def keys(sources: Sources) -> list[str]:
    """Return the keys of a run's references.

    Args:
        sources: The run.
    """
    names = ["neva", "transformerlens"]
    for method in sources.methods:
        names += OF_METHODS.get(method, ())
    if "benevolence" in sources.values:
        names.append("schwartz")
    if any("wrong_way" in table.columns for table in sources.tables.values()):
        names.append("wrongway")
    config = sources.config
    judge = config.judge.removeprefix("llm:").lower()
    names += [key for key in MODELS if config.model.lower().startswith(key) or judge.startswith(key)]
    # a judge is calibrated on labels of such data: llm:MODEL#labels=persona:FOLDER
    names += [key for key in DATA if config.prompts.startswith(f"{key}:") or f"={key}:" in judge]
    return list(dict.fromkeys(names))


def entry(key: str) -> str:
    """Write one entry.

    Args:
        key: Key of `ENTRIES`.
    """
    kind, fields = ENTRIES[key]
    width = max(map(len, fields))
    lines = [f"  {name:<{width}} = {{{content}}}," for name, content in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"]) + "\n"


def bibliography(sources: Sources) -> str:
    """Write `references.bib` of a run.

    Args:
        sources: The run.
    """
    software = str(sources.manifest.get("versions", {}).get("neva_tl") or version("neva_tl"))
    package = (
        "@misc{neva_tl,\n"
        "  title  = {{neva\\_tl}: Value Neurons in Language Models on {TransformerLens}},\n"
        "  author = {{The neva\\_tl authors}},\n"
        "  year   = {2026},\n"
        f"  note   = {{Version {software}}},\n"
        "}\n"
    )
    return "\n".join([package, *map(entry, keys(sources))])
